//! Permission to make a file, and to give one another name: a subject that may not use a file's key
//! where the file lies must not bring it to where a grant allows that.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, RenameFlags, Stat};

use super::open_mode::OpenMode;
use super::permission::{DECRYPT, GENERATE, READ_WRITE};
use crate::format::MasterKeyId;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::{Fs, FsError, Inode, Subject};
use crate::store::{FileError, KeyChoice};

/// One side of a rename.
pub struct Renamed<'a> {
    pub parent: Inode,
    pub name: &'a OsStr,
    pub at_path: &'a AtPath,
    /// What lies there, if anything does.
    pub stat: Option<&'a Stat>,
}

impl Fs {
    /// Whether `subject` may make a file as `name` in `parent` and open it as `mode`. `key` is that
    /// of the directory. A refusal is recorded.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::Key`] for a key that is out of use.
    pub(in crate::fs) fn authorize_create(
        &self,
        (parent, name): (Inode, &OsStr),
        key: KeyChoice,
        mode: OpenMode,
        subject: &Subject,
    ) -> Result<(), FsError> {
        let path = || self.path_in(parent, name);
        let permitted = self
            .check_create(key, mode, subject, path)
            .and_then(|()| Ok(self.vault.context().require_enabled(key)?));
        self.record_refused("create", path, subject, permitted)
    }

    /// [`Fs::authorize_create`] of a file that is not opened. It gets its key later, so the key need
    /// not be enabled yet.
    ///
    /// # Errors
    /// [`FsError::Denied`].
    pub(in crate::fs) fn authorize_mknod(
        &self,
        (parent, name): (Inode, &OsStr),
        key: KeyChoice,
        subject: &Subject,
    ) -> Result<(), FsError> {
        let path = || self.path_in(parent, name);
        let permitted = self.check_create(key, OpenMode::NONE, subject, path);
        self.record_refused("mknod", path, subject, permitted)
    }

    fn check_create(
        &self,
        key: KeyChoice,
        mode: OpenMode,
        subject: &Subject,
        path: impl FnOnce() -> PathBuf,
    ) -> Result<(), FsError> {
        self.require(subject, mode.actions(false).union(GENERATE), key, || vec![path()])
    }

    /// Whether `subject` may give the file at `from` the name `name` in `parent` as well. The caller
    /// holds both names. A refusal is recorded.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::File`] for a header that can't be read.
    pub(in crate::fs) fn authorize_link(
        &self,
        (inode, from): (Inode, &AtPath),
        (parent, name): (Inode, &OsStr),
        subject: &Subject,
    ) -> Result<(), FsError> {
        let permitted = self.check_link((inode, from), (parent, name), subject);
        self.record_refused("link", || self.path_in(parent, name), subject, permitted)
    }

    fn check_link(
        &self,
        (inode, from): (Inode, &AtPath),
        (parent, name): (Inode, &OsStr),
        subject: &Subject,
    ) -> Result<(), FsError> {
        if self.is_unrestricted(subject.uid, READ_WRITE) {
            return Ok(());
        }
        let stat = from.stat()?;
        let Some(key) = self.key_at(from, &stat)? else { return Ok(()) };
        let new = self.path_in(parent, name);
        let old = self.paths_of(inode);
        let of_dir = self.key_for_dir(parent)?;
        if of_dir != key {
            self.require(subject, GENERATE, KeyChoice::Named(of_dir), || vec![new.clone()])?;
        }
        if of_dir != key || old.iter().any(|old| self.crosses(old, &new, false)) {
            self.require(subject, DECRYPT, KeyChoice::Named(key), || old)?;
        }
        Ok(())
    }

    /// Whether `subject` may rename `from` to `to`, or exchange the two. The caller holds both names.
    /// A refusal is recorded.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::File`] for a header that can't be read.
    pub(in crate::fs) fn authorize_rename(
        &self,
        from: &Renamed<'_>,
        to: &Renamed<'_>,
        flags: RenameFlags,
        subject: &Subject,
    ) -> Result<(), FsError> {
        let permitted = self.check_rename(from, to, flags, subject);
        let path = || self.path_in(from.parent, from.name);
        self.record_refused("rename", path, subject, permitted)
    }

    fn check_rename(
        &self,
        from: &Renamed<'_>,
        to: &Renamed<'_>,
        flags: RenameFlags,
        subject: &Subject,
    ) -> Result<(), FsError> {
        if self.is_unrestricted(subject.uid, READ_WRITE) {
            return Ok(());
        }
        let (old, new) = (self.path_in(from.parent, from.name), self.path_in(to.parent, to.name));
        self.check_move(from, &old, &new, subject)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            return self.check_move(to, &new, &old, subject);
        }
        match to.stat.map(|stat| self.key_at(to.at_path, stat)) {
            Some(Ok(Some(key))) => {
                self.require(subject, GENERATE, KeyChoice::Named(key), || vec![new])
            }
            // What is damaged has nothing to be kept from anybody.
            None | Some(Ok(None) | Err(FsError::File { error: FileError::Integrity(_), .. })) => {
                Ok(())
            }
            Some(Err(error)) => Err(error),
        }
    }

    fn check_move(
        &self,
        what: &Renamed<'_>,
        old: &Path,
        new: &Path,
        subject: &Subject,
    ) -> Result<(), FsError> {
        let Some(stat) = what.stat else { return Ok(()) };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !self.crosses(old, new, is_dir) {
            return Ok(());
        }
        let keys: Vec<_> = match is_dir {
            // Whatever lies in it.
            true => self.vault.context().ring().keys().map(|key| key.id()).collect(),
            false => self.key_at(what.at_path, stat)?.into_iter().collect(),
        };
        keys.into_iter().try_for_each(|key| {
            self.require(subject, DECRYPT, KeyChoice::Named(key), || vec![old.into()])
        })
    }

    /// The key that files made in a directory get.
    fn key_for_dir(&self, dir: Inode) -> Result<MasterKeyId, FsError> {
        Ok(self.key_of_dir(dir)?.id(&self.vault.context().ring()))
    }

    /// Whether a grant with a path covers one of the two paths and not the other; of directories,
    /// anything in them.
    fn crosses(&self, old: &Path, new: &Path, is_dir: bool) -> bool {
        if !self.vault.context().grants_by_path() {
            return false;
        }
        let ring = self.vault.context().ring();
        let grants = ring.keys().flat_map(|key| key.policy().grants());
        let mut scopes = grants.filter_map(|grant| grant.under.as_deref().map(Path::new));
        scopes.any(|scope| {
            let below = |path: &Path| is_dir && scope.starts_with(path);
            old.starts_with(scope) != new.starts_with(scope) || below(old) || below(new)
        })
    }
}
