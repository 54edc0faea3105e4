//! The descriptors that the kernel has open, by number.
//!
//! Each open gets a number, and the later open the larger one, so that a failure can be told to
//! every descriptor that was open then. A strict mount also keeps who opened what, and refuses what
//! a descriptor's opener may do no longer.

use std::sync::atomic::Ordering;

use super::handle::{Handle, Opener};
use crate::fs::ops::change::Origin;
use crate::fs::{Fs, FsError, Inode};
use crate::keys::policy::{Action, ActionSet, Asker};
use crate::trail::Who;

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
