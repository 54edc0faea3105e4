//! Which master key wraps the data keys of files made in a directory.
//!
//! A directory keeps the key it was given in an extended attribute, so that it goes along when the
//! directory is moved, copied or restored with its attributes. Directories below have the same,
//! unless they were given one themselves; the root has the default key.

use std::ffi::OsStr;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::at_path::AtPath;
use super::cycle::CycleDetector;
use super::nodes::Link;
use crate::format::MasterKeyId;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Inode};
use crate::store::KeyChoice;

/// The attribute's name in the vault. Nothing of the kind shows in the mount.
const ATTRIBUTE: &str = "user.atrest.key";
/// Bytes of its value: the key's id and a MAC.
const VALUE_LEN: usize = 48;

impl Fs {
    /// Gives the directory at `path`, from the mount's root, a master key for files made in it
    /// from now on; those that exist keep theirs.
    ///
    /// # Errors
    /// ENOTDIR for what is no directory; [`FsError::Backing`] with the error of setxattr(2).
    pub fn assign(&self, path: &Path, key: &MasterKeyId) -> Result<(), FsError> {
        let dir =
            self.moves.follow(|| crate::fs::maintenance::walk::open_dir(self.vault_dir(), path))?;
        let value = self.vault.assignment(key);
        let set = rustix::fs::fsetxattr(&dir, ATTRIBUTE, &value, XattrFlags::empty())
            .and_then(|()| rustix::fs::fsync(&dir));
        // One that may not be durable holds all the same.
        let _ancestry = self.ancestry.write();
        self.assignments.clear();
        Ok(set?)
    }

    /// The master key for files made in a directory; `None` for the default one.
    ///
    /// # Errors
    /// [`FsError::ForgedAssignment`]; [`FsError::Backing`] with the error of getxattr(2).
    pub(in crate::fs) fn key_of_dir(&self, dir: Inode) -> Result<KeyChoice, FsError> {
        if let Some(known) = self.assignments.get(dir) {
            return Ok(known);
        }
        loop {
            let changes = self.assignments.changes();
            let mut below = Vec::new();
            let key = self.key_from_above(dir, &mut below);
            let _ancestry = self.ancestry.read();
            // Else a directory moved while the disk was asked, and the way up may have been neither
            // the old nor the new one.
            if self.assignments.changes() == changes {
                let key = key?;
                self.assignments.remember(below, key);
                return Ok(key);
            }
        }
    }

    /// The key of the nearest directory above that has one, or of which it is known. The directories
    /// up to there go to `below`.
    fn key_from_above(&self, dir: Inode, below: &mut Vec<Inode>) -> Result<KeyChoice, FsError> {
        let mut at = dir;
        let mut cycle = CycleDetector::default();
        loop {
            if cycle.is_cycle(at) {
                return Err(FsError::Stale);
            }
            below.push(at);
            let link = self.nodes.with_link(at, Link::clone);
            // By descriptor: another directory may get its name meanwhile.
            let own =
                self.own_key_of(&AtPath::itself(self.dir(at)?)).map_err(|error| match error {
                    FsError::ForgedAssignment(_) => {
                        let name = link.as_ref().map_or(OsStr::new("."), |link| &link.name);
                        FsError::ForgedAssignment(name.into())
                    }
                    other => other,
                })?;
            let above = link.filter(|_| own.is_none() && at != Inode::ROOT);
            let Some(Link { parent, .. }) = above else { return Ok(own.into()) };
            if let Some(known) = self.assignments.get(parent) {
                return Ok(known);
            }
            at = parent;
        }
    }

    /// Before an empty file that was not made in this mount, or was emptied, gets content: tells
    /// it the key of the directory that it lies in.
    pub(in crate::fs) fn choose_key(&self, inode: Inode, file: &OpenFile) -> Result<(), FsError> {
        if !file.needs_key() {
            return Ok(());
        }
        if let Some(dir) = self.nodes.with_link(inode, |link| link.parent) {
            file.choose_key(self.key_of_dir(dir)?);
        }
        Ok(())
    }

    /// The key that a directory itself was given.
    pub(in crate::fs) fn own_key_of(&self, dir: &AtPath) -> Result<Option<MasterKeyId>, FsError> {
        let mut value = [0; VALUE_LEN + 1];
        let path = dir.proc_path();
        let got = if dir.is_itself() {
            rustix::fs::getxattr(path, ATTRIBUTE, &mut value)
        } else {
            rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value)
        };
        match got {
            Ok(len) => match self.vault.assigned(&value[..len]) {
                Some(key) => Ok(Some(key)),
                None => Err(FsError::ForgedAssignment(dir.name().into())),
            },
            // A filesystem without attributes has directories without keys.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(Errno::RANGE) => Err(FsError::ForgedAssignment(dir.name().into())),
            Err(errno) => Err(errno.into()),
        }
    }
}
