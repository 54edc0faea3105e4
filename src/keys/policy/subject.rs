//! On whose behalf an operation is done.

use std::sync::Arc;

use crate::sys;

/// A user, and the process by which they act, as far as these are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The process, or a thread of it; 0 for the kernel itself, or where the process is not known.
    pub pid: u32,
    /// The supplementary groups.
    pub groups: Groups,
    /// The program that the process runs (proc(5), exe), once it was looked up.
    pub executable: Option<Arc<str>>,
}

/// The supplementary groups of a [`Subject`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// Those that /proc tells of the process. They are read when a decision depends on them.
    OfProcess,
    /// These.
    Known(Vec<u32>),
    /// They can't be determined.
    Unknown,
}

impl Subject {
    /// A process of a user. Nothing is looked up yet.
    pub const fn process(uid: u32, gid: u32, pid: u32) -> Self {
        Self { uid, gid, pid, groups: Groups::OfProcess, executable: None }
    }

    /// A user whose groups are known, by no process.
    pub fn user(uid: u32, gid: u32, groups: Vec<u32>) -> Self {
        Self { groups: Groups::Known(groups), ..Self::process(uid, gid, 0) }
    }

    /// This process, with its program.
    pub fn this_process() -> Self {
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Self::process(uid.as_raw(), gid.as_raw(), std::process::id()).with_executable()
    }

    /// Looks the program up. The process must be waiting for an answer, so that it runs the same
    /// program until then.
    pub fn with_executable(self) -> Self {
        let executable = if self.pid == 0 { None } else { sys::program_of(self.pid) };
        Self { executable, ..self }
    }

    /// Reads the groups of the process, unless they are known. The caller holds no lock: the read
    /// of /proc may wait for the process.
    pub fn with_groups(self) -> Self {
        match self.groups {
            Groups::OfProcess => {
                let groups = sys::groups_of(self.pid).map_or(Groups::Unknown, Groups::Known);
                Self { groups, ..self }
            }
            Groups::Known(_) | Groups::Unknown => self,
        }
    }

    /// Whether this is the superuser, who keeps suid and sgid bits where others lose them.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether `gid` is the subject's group or one of the supplementary groups, as far as they are
    /// known.
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid
            || match &self.groups {
                Groups::OfProcess => {
                    sys::groups_of(self.pid).is_some_and(|groups| groups.contains(&gid))
                }
                Groups::Known(groups) => groups.contains(&gid),
                Groups::Unknown => false,
            }
    }

    /// Whether the process waits in an open(2) for writing that empties the file. The FUSE request
    /// does not show that: the kernel opens first and truncates later, and the other order
    /// (`FUSE_ATOMIC_O_TRUNC`) would let a running program be emptied before the open is refused.
    ///
    /// `false` too where it can't be determined: see [`sys::is_truncating_open`].
    pub fn is_emptying(&self) -> bool {
        sys::is_truncating_open(self.pid)
    }
}
