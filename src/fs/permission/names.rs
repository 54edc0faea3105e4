//! What giving a file another name takes: whoever may not use its key where it lies does not bring it
//! to where somebody may.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::{FileType, Stat};

use super::{both, decrypts, fills};
use crate::format::MasterKeyId;
use crate::fs::place::Place;
use crate::fs::{Caller, Fs, FsError, Inode};
use crate::store::{FileError, KeyChoice};

/// One side of a rename.
pub(in crate::fs) struct Renamed<'a> {
    pub parent: Inode,
    pub name: &'a OsStr,
    pub place: &'a Place,
    /// What lies there, if anything does.
    pub stat: Option<&'a Stat>,
}

impl Fs {
    /// Before `place` gets the name `to` as well. The caller holds both names.
    pub(in crate::fs) fn may_link(
        &self,
        (inode, from): (Inode, &Place),
        (parent, name): (Inode, &OsStr),
        caller: &Caller,
    ) -> Result<(), FsError> {
        if self.freely(caller.uid, both()) {
            return Ok(());
        }
        let stat = from.stat()?;
        let Some(key) = self.key_at(from, &stat)? else { return Ok(()) };
        let new = self.path_in(parent, name);
        let old = self.paths_of(inode);
        let of_dir = self.key_for_dir(parent)?;
        if of_dir != key {
            self.require(caller, fills(), KeyChoice::Named(of_dir), || vec![new.clone()])?;
        }
        if of_dir != key || old.iter().any(|old| self.crosses(old, &new, false)) {
            self.require(caller, decrypts(), KeyChoice::Named(key), || old)?;
        }
        Ok(())
    }

    /// Before `from` is renamed to `to`, where what `replaced` says lies, or changes places with it.
    /// The caller holds both names.
    pub(in crate::fs) fn may_rename(
        &self,
        from: &Renamed<'_>,
        to: &Renamed<'_>,
        exchange: bool,
        caller: &Caller,
    ) -> Result<(), FsError> {
        if self.freely(caller.uid, both()) {
            return Ok(());
        }
        let (old, new) = (self.path_in(from.parent, from.name), self.path_in(to.parent, to.name));
        self.may_move(from, &old, &new, caller)?;
        if exchange {
            return self.may_move(to, &new, &old, caller);
        }
        match to.stat.map(|stat| self.key_at(to.place, stat)) {
            Some(Ok(Some(key))) => {
                self.require(caller, fills(), KeyChoice::Named(key), || vec![new])
            }
            // What is damaged has nothing to be kept from anybody.
            None | Some(Ok(None) | Err(FsError::File { error: FileError::Integrity(_), .. })) => {
                Ok(())
            }
            Some(Err(error)) => Err(error),
        }
    }

    fn may_move(
        &self,
        what: &Renamed<'_>,
        old: &Path,
        new: &Path,
        caller: &Caller,
    ) -> Result<(), FsError> {
        let Some(stat) = what.stat else { return Ok(()) };
        let is_dir = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !self.crosses(old, new, is_dir) {
            return Ok(());
        }
        let keys: Vec<_> = match is_dir {
            // Whatever lies in it.
            true => self.vault.context().ring().keys().map(|key| key.id()).collect(),
            false => self.key_at(what.place, stat)?.into_iter().collect(),
        };
        keys.into_iter().try_for_each(|key| {
            self.require(caller, decrypts(), KeyChoice::Named(key), || vec![old.into()])
        })
    }

    /// The key that files made in a directory get.
    fn key_for_dir(&self, dir: Inode) -> Result<MasterKeyId, FsError> {
        Ok(self.key_of_dir(dir)?.id(&self.vault.context().ring()))
    }

    /// Whether some grant that counts by its path counts for one of these places and not for the
    /// other; of directories, for anything in them.
    fn crosses(&self, old: &Path, new: &Path, is_dir: bool) -> bool {
        if !self.vault.context().grants_by_path() {
            return false;
        }
        let ring = self.vault.context().ring();
        let grants = ring.keys().flat_map(|key| key.policy().grants());
        let mut places = grants.filter_map(|grant| grant.under.as_deref().map(Path::new));
        places.any(|place| {
            let below = |path: &Path| is_dir && place.starts_with(path);
            old.starts_with(place) != new.starts_with(place) || below(old) || below(new)
        })
    }
}
