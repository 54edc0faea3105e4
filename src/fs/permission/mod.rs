//! Who may use a file's master key: what each operation asks for, and of which key.
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
//! that of its directory. What is done through an open descriptor was asked for when it was opened,
//! but for copies, and for [`super::handles`] of a strict mount.
//!
//! Whom no grant has to be looked up for pays for two loads and a comparison.

mod names;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::open_file::OpenFile;
use super::place::Place;
use super::{Caller, Fs, FsError, Inode};
use crate::format::MasterKeyId;
use crate::keys::Timestamp;
use crate::keys::policy::{Action, ActionSet, Asker};
use crate::store::{Access, FileError, KeyChoice};

pub(super) use names::Renamed;

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// And it is emptied (`O_TRUNC`).
    pub empty: bool,
}

impl Wanted {
    /// Reading alone.
    pub const READ: Self = Self { read: true, write: false, empty: false };
    /// Writing alone.
    pub const WRITE: Self = Self { read: false, write: true, empty: false };
    /// Both.
    pub const BOTH: Self = Self { read: true, write: true, empty: false };

    /// Whether the file must be writable for it.
    pub fn changes(self) -> bool {
        self.write || self.empty
    }

    /// What it asks of the key of a file that has content, or has none.
    pub fn actions(self, has_content: bool) -> ActionSet {
        let partial = self.write && has_content && !self.empty;
        let mut actions = ActionSet::default();
        if self.read || partial {
            actions = actions.with(Action::Decrypt);
        }
        if self.changes() {
            actions = actions.with(Action::GenerateDataKey);
        }
        actions
    }
}

/// Whether a file is emptied by it, which has to be asked for where the kernel is about to.
pub(super) fn empties(file: &OpenFile, wanted: Wanted, caller: &Caller) -> bool {
    wanted.empty || (wanted.write && !file.is_empty() && caller.is_emptying())
}

fn both() -> ActionSet {
    decrypts().with(Action::GenerateDataKey)
}

fn decrypts() -> ActionSet {
    ActionSet::of(&[Action::Decrypt])
}

fn fills() -> ActionSet {
    ActionSet::of(&[Action::GenerateDataKey])
}

impl Fs {
    /// Whether the default policy is for a user: root, the owner of the mount's root, and who runs this
    /// process, and so has the keys themselves.
    pub fn is_owner(&self, uid: u32) -> bool {
        uid == 0 || uid == self.euid || uid == self.vault_owner()
    }

    /// The user of the mount's root.
    pub fn vault_owner(&self) -> u32 {
        self.vault.root_attrs().uid
    }

    pub(super) fn may_open(
        &self,
        inode: Inode,
        file: &OpenFile,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<(), FsError> {
        if self.freely(caller.uid, both()) {
            return Ok(());
        }
        let has_content = !file.is_empty();
        let key = match has_content && !wanted.empty {
            true => self.key_of(inode, file)?,
            false => self.key_of_new_content(inode, file)?,
        };
        let paths = || self.paths_of(inode);
        match self.require(caller, wanted.actions(has_content), key, paths) {
            Err(FsError::Denied { .. })
                if has_content && wanted.write && !wanted.empty && caller.is_emptying() =>
            {
                self.may_open(inode, file, Wanted { empty: true, ..wanted }, caller)
            }
            answer => answer,
        }
    }

    /// Whether the master key that it takes may be used: the content's, or where all content will
    /// be new that of the directory. To read a file without content takes none.
    ///
    /// # Errors
    /// [`FsError::Key`], [`FsError::File`] when it may not; what reading the header gives.
    pub(super) fn require_key(
        &self,
        inode: Inode,
        file: &OpenFile,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<(), FsError> {
        let context = self.vault.context();
        // Asked of every file only while some key is out of use: it takes reading the header.
        if context.all_enabled() {
            return Ok(());
        }
        if !empties(file, wanted, caller) {
            self.in_file(inode, file.require_key())?;
            if !wanted.write || self.key_of_content(inode, file)?.is_some() {
                return Ok(());
            }
        }
        Ok(context.require_enabled(self.key_of_new_content(inode, file)?)?)
    }

    /// Before a file is made as `name` in `parent`.
    pub(super) fn may_create(
        &self,
        parent: Inode,
        name: &OsStr,
        key: KeyChoice,
        wanted: Wanted,
        caller: &Caller,
    ) -> Result<(), FsError> {
        let actions = wanted.actions(false).union(fills());
        self.require(caller, actions, key, || vec![self.path_in(parent, name)])
    }

    /// Before what is read elsewhere is written to an open file.
    pub(super) fn may_fill(
        &self,
        inode: Inode,
        file: &OpenFile,
        caller: &Caller,
    ) -> Result<(), FsError> {
        if self.freely(caller.uid, fills()) {
            return Ok(());
        }
        let key = self.key_of(inode, file)?;
        self.require(caller, fills(), key, || self.paths_of(inode))
    }

    /// Whether no grant has to be looked up to know that `uid` may do all of `actions`.
    pub(super) fn freely(&self, uid: u32, actions: ActionSet) -> bool {
        let context = self.vault.context();
        context.lets_everybody(actions) || (self.is_owner(uid) && context.lets_owner(actions))
    }

    /// Asks the policy of a key. `paths` are the file's.
    fn require(
        &self,
        caller: &Caller,
        actions: ActionSet,
        key: KeyChoice,
        paths: impl FnOnce() -> Vec<PathBuf>,
    ) -> Result<(), FsError> {
        if self.freely(caller.uid, actions) {
            return Ok(());
        }
        let asker = self.asker(caller.uid, caller.gid);
        self.ask(asker, &|| caller.groups(), actions, key, paths)
    }

    /// A user of whose groups nothing was asked yet.
    pub fn asker(&self, uid: u32, gid: u32) -> Asker {
        Asker { uid, gid, groups: Some(Vec::new()), owner: self.is_owner(uid) }
    }

    /// The groups are looked up where a grant for one could decide.
    pub(super) fn ask(
        &self,
        mut asker: Asker,
        groups: &dyn Fn() -> Option<Vec<u32>>,
        actions: ActionSet,
        key: KeyChoice,
        paths: impl FnOnce() -> Vec<PathBuf>,
    ) -> Result<(), FsError> {
        let context = self.vault.context();
        let paths = if context.grants_by_path() { paths() } else { Vec::new() };
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let ring = context.ring();
        let key = ring.key_by_id(&key.id(&ring))?;
        let policy = key.policy();
        if policy.asks_for_groups(actions) {
            asker.groups = groups();
        }
        let now = Timestamp::now();
        match actions.iter().find(|&action| !policy.decide(&asker, action, &paths, now).allowed) {
            None => Ok(()),
            Some(action) => {
                Err(FsError::Denied { uid: asker.uid, action, key: key.name().to_owned() })
            }
        }
    }

    /// The key that a file's content is under; `None` where it has none.
    pub(super) fn key_of_content(
        &self,
        inode: Inode,
        file: &OpenFile,
    ) -> Result<Option<MasterKeyId>, FsError> {
        Ok(self.in_file(inode, file.wrapped_by())?.map(|(key, _)| key))
    }

    /// The key that the first content of an empty file comes under.
    pub(super) fn key_of_new_content(
        &self,
        inode: Inode,
        file: &OpenFile,
    ) -> Result<KeyChoice, FsError> {
        if let Some(chosen) = file.next_key() {
            return Ok(chosen);
        }
        match self.nodes.with_link(inode, |link| link.parent) {
            Some(dir) => self.key_of_dir(dir),
            None => Ok(KeyChoice::Default),
        }
    }

    /// The key that a file's content is under, or its first content comes under.
    pub(super) fn key_of(&self, inode: Inode, file: &OpenFile) -> Result<KeyChoice, FsError> {
        match self.key_of_content(inode, file)? {
            Some(key) => Ok(KeyChoice::Named(key)),
            None => self.key_of_new_content(inode, file),
        }
    }

    /// The key that the content of what lies at `place` is under; `None` where there is none.
    pub(super) fn key_at(
        &self,
        place: &Place,
        stat: &Stat,
    ) -> Result<Option<MasterKeyId>, FsError> {
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_size == 0 {
            return Ok(None);
        }
        let (fd, writable, stat) = self.open.open_found(place, Access::ReadOnly)?;
        let inode = self.places.inode(&stat)?;
        let file = self.open.acquire_found(inode, fd, writable)?;
        let key = file.wrapped_by();
        drop(file);
        let released = self.open.release(inode);
        let in_place = |error: FileError| FsError::File { path: place.name().into(), error };
        let key = key.map_err(in_place)?.map(|(key, _)| key);
        released.map_err(in_place).map(|()| key)
    }

    /// The path of a name in a directory.
    pub(super) fn path_in(&self, parent: Inode, name: &OsStr) -> PathBuf {
        let _ancestry = self.ancestry.read();
        self.places.path(&self.nodes, parent).join(name)
    }

    /// The path of a file as it is now; of one that has several, the last.
    pub fn path_of(&self, inode: Inode) -> PathBuf {
        let _ancestry = self.ancestry.read();
        self.places.path(&self.nodes, inode)
    }

    pub(super) fn paths_of(&self, inode: Inode) -> Vec<PathBuf> {
        let _ancestry = self.ancestry.read();
        self.places.paths(&self.nodes, inode)
    }
}
