//! The descriptors that the kernel has open, by number.
//!
//! Each open gets a number, and the later open the larger one, so that a failure can be told to
//! every descriptor that was open then. A strict mount also keeps who opened what, and refuses what
//! a descriptor's opener may do no longer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;

use crate::fs::ops::data::Origin;
use crate::fs::{Caller, Fs, FsError, Inode, Wanted};
use crate::keys::policy::{Action, ActionSet, Asker};
use crate::trail::Who;

/// An open file as the kernel names it: a serial number, above two bits that say what the kernel
/// does not repeat with each request. 0 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Handle(pub u64);

impl Handle {
    const WRITES: u64 = 1;
    const BY_ROOT: u64 = 2;
    const BITS: u32 = 2;

    /// Root's, without an open file.
    pub(in crate::fs) const ROOT: Self = Self(Self::BY_ROOT);

    fn new(number: u64, wanted: Wanted, caller: &Caller) -> Self {
        let writes = if wanted.write { Self::WRITES } else { 0 };
        let by_root = if caller.is_root() { Self::BY_ROOT } else { 0 };
        Self(number << Self::BITS | writes | by_root)
    }

    /// Whether it was opened for writing.
    pub fn writes(self) -> bool {
        self.0 & Self::WRITES != 0
    }

    /// Whether root opened it.
    pub fn by_root(self) -> bool {
        self.0 & Self::BY_ROOT != 0
    }
}

/// The open files of a mount.
#[derive(Debug, Default)]
pub struct Handles {
    strict: AtomicBool,
    last: AtomicU64,
    /// Of a strict mount alone.
    openers: DashMap<Handle, Opener>,
}

#[derive(Debug, Clone)]
struct Opener {
    inode: Inode,
    wanted: Wanted,
    /// As they were when they opened it.
    asker: Asker,
}

impl Handles {
    /// A handle for a file that was opened.
    pub fn open(&self, fs: &Fs, inode: Inode, wanted: Wanted, caller: &Caller) -> Handle {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = Handle::new(number, wanted, caller);
        if self.strict.load(Ordering::Relaxed) {
            let asker = Asker { groups: caller.groups(), ..fs.asker(caller.uid, caller.gid) };
            self.openers.insert(handle, Opener { inode, wanted, asker });
        }
        handle
    }

    /// Not below any handle there is, and below every later one.
    pub fn newest(&self) -> Handle {
        let last = self.last.load(Ordering::Relaxed);
        Handle(last << Handle::BITS | Handle::WRITES | Handle::BY_ROOT)
    }

    fn opener(&self, handle: Handle) -> Option<Opener> {
        let strict = self.strict.load(Ordering::Relaxed);
        strict.then(|| self.openers.get(&handle).map(|opener| opener.clone())).flatten()
    }
}

impl Fs {
    /// From now on whoever reads or writes must still be allowed to. Before anything is opened.
    pub fn be_strict(&self) {
        self.handles.strict.store(true, Ordering::Relaxed);
    }

    /// Whether it is asked at every read and write.
    pub fn is_strict(&self) -> bool {
        self.handles.strict.load(Ordering::Relaxed)
    }

    /// Forgets who opened a file that is released.
    pub fn forget_opener(&self, handle: Handle) {
        if self.is_strict() {
            self.handles.openers.remove(&handle);
        }
    }

    /// Whether whoever opened a file may still read it. The kernel also reads for one who only
    /// writes, to fill a page up; that needs no more than writing.
    ///
    /// # Errors
    /// [`FsError::Denied`]; what reading the header gives.
    pub fn may_still_read(&self, inode: Inode, handle: Handle) -> Result<(), FsError> {
        let Some(opener) = self.handles.opener(handle) else { return Ok(()) };
        let action = if opener.wanted.read { Action::Decrypt } else { Action::GenerateDataKey };
        self.may_still(inode, &opener, action)
    }

    /// Whether whoever opened a file may still write it. What the kernel writes back out of its
    /// cache is of all who write, by the handle of any: it is refused when none of them may.
    ///
    /// # Errors
    /// As [`Fs::may_still_read`].
    pub fn may_still_write(
        &self,
        inode: Inode,
        handle: Handle,
        origin: Origin,
    ) -> Result<(), FsError> {
        let Some(opener) = self.handles.opener(handle) else { return Ok(()) };
        let may = |opener: &Opener| self.may_still(inode, opener, Action::GenerateDataKey);
        let refused = match may(&opener) {
            Err(error) if origin.is_shared() => error,
            answer => return answer,
        };
        let writers = self.handles.openers.iter();
        let writers = writers.filter(|other| other.inode == inode && other.wanted.write);
        let others: Vec<Opener> = writers.map(|other| other.clone()).collect();
        if others.iter().any(|other| may(other).is_ok()) { Ok(()) } else { Err(refused) }
    }

    fn may_still(&self, inode: Inode, opener: &Opener, action: Action) -> Result<(), FsError> {
        let actions = ActionSet::of(&[action]);
        if self.freely(opener.asker.uid, actions) {
            return Ok(());
        }
        let file = self.open.find(inode).ok_or(FsError::Stale)?;
        let key = self.key_of(inode, &file)?;
        let groups = || opener.asker.groups.clone();
        let may = self.ask(opener.asker.clone(), &groups, actions, key, || self.paths_of(inode));
        let Asker { uid, gid, .. } = opener.asker;
        // Which process uses the descriptor by now does not matter: it counts who opened it.
        let who = || Who { uid, gid, pid: 0, executable: None };
        let operation = if action == Action::Decrypt { "read" } else { "write" };
        self.record_refused(operation, || self.path_of(inode), who, may)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_handle_is_below_every_later_one() {
        let handles = Handles::default();
        let root = Caller { uid: 0, gid: 0, pid: 1 };
        let user = Caller { uid: 1000, ..root };
        let last = Handle::new(7, Wanted::BOTH, &root);
        let next = Handle::new(8, Wanted::READ, &user);
        handles.last.store(7, Ordering::Relaxed);
        assert!(last <= handles.newest());
        assert!(next > handles.newest());
    }
}
