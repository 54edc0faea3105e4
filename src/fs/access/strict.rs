//! A strict mount: each read and write through a descriptor takes the permission of its opener as it is
//! then. Other mounts check permission at the open alone.

use std::sync::atomic::Ordering;

use super::handle::{Handle, Opener};
use crate::fs::ops::change::Origin;
use crate::fs::{Fs, FsError, Inode, Subject};
use crate::keys::policy::{Action, ActionSet};
use crate::store::KeyChoice;

impl Fs {
    /// From now on the opener of a file must be allowed each read and write. To be called before
    /// anything is opened.
    pub fn be_strict(&self) {
        self.handles.strict.store(true, Ordering::Relaxed);
    }

    /// Whether every read and write is checked.
    pub fn is_strict(&self) -> bool {
        self.handles.strict.load(Ordering::Relaxed)
    }

    /// Forgets the opener of a file that is released.
    pub fn forget_opener(&self, handle: Handle) {
        if self.is_strict() {
            self.handles.openers.remove(&handle);
        }
    }

    /// Whether the opener of a file may still read it. The kernel also reads for an opener that
    /// only writes, to fill a page; that needs no more permission than writing.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::File`] for a header that can't be read.
    pub fn may_still_read(&self, inode: Inode, handle: Handle) -> Result<(), FsError> {
        let Some(opener) = self.handles.opener(handle) else { return Ok(()) };
        let action = if opener.mode.read { Action::Decrypt } else { Action::GenerateDataKey };
        self.may_still(inode, &opener, action)
    }

    /// Whether the opener of a file may still write it. The kernel's write-back carries the content
    /// of all writers under the handle of one: it is refused when none of them may write.
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
        let writers = writers.filter(|other| other.inode == inode && other.mode.write);
        let others: Vec<Opener> = writers.map(|other| other.clone()).collect();
        if others.iter().any(|other| may(other).is_ok()) { Ok(()) } else { Err(refused) }
    }

    fn may_still(&self, inode: Inode, opener: &Opener, action: Action) -> Result<(), FsError> {
        let actions = ActionSet::of(&[action]);
        if self.is_unrestricted(opener.subject.uid, actions) {
            return Ok(());
        }
        let file = self.open.find(inode).ok_or(FsError::Stale)?;
        let key = match self.in_file(inode, file.wrapped_by())? {
            Some((key, _)) => KeyChoice::Named(key),
            None => self.key_of_new_content(&file)?,
        };
        let permitted = self.require(&opener.subject, actions, key, || self.paths_of(inode));
        // The opener counts, whichever process uses the descriptor by now.
        let subject = Subject::process(opener.subject.uid, opener.subject.gid, 0);
        let operation = if action == Action::Decrypt { "read" } else { "write" };
        self.record_refused(operation, || self.path_of(inode), &subject, permitted)
    }
}
