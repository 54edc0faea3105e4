//! Who asks for an operation.

use crate::sys;
use crate::trail::Who;

/// Who asks for an operation.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The process, or the thread of it that asks.
    pub pid: u32,
}

impl Caller {
    /// Whether the caller is the superuser, who keeps suid and sgid bits where others lose them.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The caller, who waits, as the trail names them.
    pub fn who(&self) -> Who {
        Who::process(self.uid, self.gid, self.pid)
    }

    /// Whether `gid` is the caller's group or one of its supplementary groups, as far as /proc
    /// tells them (proc(5), status).
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups().is_some_and(|groups| groups.contains(&gid))
    }

    /// The caller's supplementary groups (proc(5), status); `None` where /proc does not tell, as of
    /// a process in another pid namespace.
    pub fn groups(&self) -> Option<Vec<u32>> {
        sys::groups_of(self.pid)
    }

    /// Whether the caller waits in an open(2) for writing that empties the file. The kernel does
    /// not say so in the request that it makes of it: opening comes first, and to agree on another
    /// order (FUSE_ATOMIC_O_TRUNC) would have a program that runs be emptied before that is refused.
    ///
    /// `false` too where it can't be told: see [`sys::is_truncating_open`].
    pub fn is_emptying(&self) -> bool {
        sys::is_truncating_open(self.pid)
    }
}
