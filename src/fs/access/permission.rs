//! Permission to use a file's master key: the uses that each operation makes of it, and of which
//! key.
//!
//! | operation | asks for |
//! |---|---|
//! | open for reading | decrypt |
//! | open for writing: an empty file, or one that is emptied by it | generate-data-key |
//! | open for writing, otherwise | decrypt, generate-data-key |
//! | create, mknod of a file | generate-data-key; decrypt too if it is opened for reading |
//! | truncate to nothing, or an empty file | generate-data-key |
//! | truncate, otherwise | decrypt, generate-data-key |
//! | copy_file_range | decrypt of the source, generate-data-key of the target |
//! | link into a directory of another key | decrypt of the file, generate-data-key of that key |
//! | rename over a file with content | generate-data-key of that file's key |
//! | rename, link into or out of where a grant counts by its path | decrypt of what moves |
//!
//! A file with content has the key that its header names; an empty one, or one that is emptied,
//! that of its directory. An operation through an open descriptor was permitted by the open, except
//! for copies, and for strict mounts ([`super::strict`]).
//!
//! Fast path: if no grant can change the answer, the check is two atomic loads and a comparison.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use crate::format::MasterKeyId;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Subject};
use crate::keys::Timestamp;
use crate::keys::policy::{Action, ActionSet, Groups, Ownership};
use crate::store::{Access, FileError, KeyChoice};

/// The uses that the most demanding operation makes of a key.
pub const READ_WRITE: ActionSet = ActionSet::of(&[Action::Decrypt, Action::GenerateDataKey]);
pub const DECRYPT: ActionSet = ActionSet::of(&[Action::Decrypt]);
pub const GENERATE: ActionSet = ActionSet::of(&[Action::GenerateDataKey]);

impl Fs {
    /// Whether the default policy is for a user: root, the owner of the mount's root, and the user
    /// of this process, which has the keys themselves.
    pub fn is_owner(&self, uid: u32) -> bool {
        uid == 0 || uid == self.euid || uid == self.vault_owner()
    }

    /// [`Fs::is_owner`], as a policy takes it.
    pub fn ownership(&self, uid: u32) -> Ownership {
        if self.is_owner(uid) { Ownership::Owner } else { Ownership::Other }
    }

    /// The user of the mount's root.
    pub fn vault_owner(&self) -> u32 {
        self.vault.root_attrs().uid
    }

    /// Whether no grant has to be looked up to know that `uid` may do all of `actions`.
    pub(in crate::fs) fn is_unrestricted(&self, uid: u32, actions: ActionSet) -> bool {
        let context = self.vault.context();
        context.lets_everybody(actions) || (self.is_owner(uid) && context.lets_owner(actions))
    }

    /// Asks the policy of the chosen key. `paths` are the file's.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::Key`] for a key that the key file does not have.
    pub(in crate::fs) fn require(
        &self,
        subject: &Subject,
        actions: ActionSet,
        key: KeyChoice,
        paths: impl FnOnce() -> Vec<PathBuf>,
    ) -> Result<(), FsError> {
        if self.is_unrestricted(subject.uid, actions) {
            return Ok(());
        }
        let context = self.vault.context();
        let paths = if context.grants_by_path() { paths() } else { Vec::new() };
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let ownership = self.ownership(subject.uid);
        let mut subject = Cow::Borrowed(subject);
        loop {
            let ring = context.ring();
            let key = ring.key_by_id(&key.id(&ring))?;
            let policy = key.policy();
            if subject.groups == Groups::OfProcess && policy.asks_for_groups(actions) {
                // Not under the lock of the keys: reading /proc may wait for the process.
                drop(ring);
                subject = Cow::Owned(subject.into_owned().with_groups());
                continue;
            }
            let now = Timestamp::now();
            let is_denied =
                |&action: &Action| !policy.decide(&subject, ownership, action, &paths, now).allowed;
            return match actions.iter().find(is_denied) {
                None => Ok(()),
                Some(action) => {
                    Err(FsError::Denied { uid: subject.uid, action, key: key.name().to_owned() })
                }
            };
        }
    }

    /// The key that the first content of an empty file will get.
    pub(in crate::fs) fn key_of_new_content(&self, file: &OpenFile) -> Result<KeyChoice, FsError> {
        if let Some(chosen) = file.next_key() {
            return Ok(chosen);
        }
        match self.nodes.with_link(file.inode(), |link| link.parent) {
            Some(dir) => self.key_of_dir(dir),
            None => Ok(KeyChoice::Default),
        }
    }

    /// The key that the content of what lies at `at_path` is under; `None` where there is none.
    pub(in crate::fs) fn key_at(
        &self,
        at_path: &AtPath,
        stat: &Stat,
    ) -> Result<Option<MasterKeyId>, FsError> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
            return Ok(None);
        }
        let (found, stat) = self.open.open_found(at_path, Access::ReadOnly)?;
        let inode = self.resolver.inode(&stat)?;
        let file = self.open.acquire_found(inode, found)?;
        let key = file.wrapped_by();
        drop(file);
        let released = self.open.release(inode);
        let in_place = |error: FileError| FsError::File { path: at_path.name().into(), error };
        let key = key.map_err(in_place)?.map(|(key, _)| key);
        released.map_err(in_place).map(|()| key)
    }
}
