//! Which master key wraps the data keys of files made in a directory.
//!
//! A directory keeps the key it was given in an extended attribute, so that it goes along when the
//! directory is moved, copied or restored with its attributes. Directories below have the same,
//! unless they were given one themselves; the root has the default key.

use std::ffi::OsStr;
use std::path::Path;

use dashmap::DashMap;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

use super::nodes::CircleCheck;
use super::open_file::OpenFile;
use super::place::Place;
use super::{Fs, FsError, Inode};
use crate::format::MasterKeyId;

/// The attribute's name in the vault. Nothing of the kind shows in the mount.
const ATTRIBUTE: &str = "user.atrest.key";
/// Bytes of its value: the key's id and a MAC.
const VALUE_LEN: usize = 48;

/// Keys of directories, as far as they were looked up. Empty after a change of any.
pub type Assignments = DashMap<Inode, Option<MasterKeyId>>;

impl Fs {
    /// Gives the directory at `path`, from the mount's root, a master key for files made in it
    /// from now on; those that exist keep theirs.
    ///
    /// # Errors
    /// ENOTDIR for what is no directory; what the backing filesystem says.
    pub fn assign(&self, path: &Path, key: &MasterKeyId) -> Result<(), FsError> {
        let _tree = self.tree.write();
        let dir = super::walk::open_dir(self.vault_dir(), path)?;
        let value = self.vault.assignment(key);
        rustix::fs::fsetxattr(&dir, ATTRIBUTE, &value, XattrFlags::empty())?;
        rustix::fs::fsync(&dir)?;
        self.assignments.clear();
        Ok(())
    }

    /// The master key for files made in a directory; `None` for the default one.
    ///
    /// # Errors
    /// [`FsError::ForgedAssignment`]; what the backing filesystem says.
    pub(super) fn key_of_dir(&self, dir: Inode) -> Result<Option<MasterKeyId>, FsError> {
        if let Some(known) = self.assignments.get(&dir) {
            return Ok(*known);
        }
        // Up to the nearest directory whose key is known.
        let mut below = vec![dir];
        let mut at = dir;
        let mut circle = CircleCheck::default();
        let key = loop {
            if circle.is_back(at) {
                return Err(FsError::Stale);
            }
            if let Some(key) = self.own_key_of(&self.places.of(&self.nodes, at)?)? {
                break Some(key);
            }
            let above = self.nodes.with_link(at, |link| link.parent);
            let Some(parent) = above.filter(|_| at != Inode::ROOT) else { break None };
            if let Some(known) = self.assignments.get(&parent) {
                break *known;
            }
            below.push(parent);
            at = parent;
        };
        for dir in below {
            self.assignments.insert(dir, key);
        }
        Ok(key)
    }

    /// Before an empty file that was not made in this mount, or was emptied, gets content: tells
    /// it the key of the directory that it lies in.
    pub(super) fn choose_key(&self, inode: Inode, file: &OpenFile) -> Result<(), FsError> {
        if !file.needs_key() {
            return Ok(());
        }
        let _tree = self.tree.read();
        if let Some(dir) = self.nodes.with_link(inode, |link| link.parent) {
            file.choose_key(self.key_of_dir(dir)?);
        }
        Ok(())
    }

    /// The key that a directory itself was given.
    pub(super) fn own_key_of(&self, dir: &Place) -> Result<Option<MasterKeyId>, FsError> {
        let mut value = [0; VALUE_LEN + 1];
        let path = dir.proc_path();
        let got = match dir.is_itself() {
            true => rustix::fs::getxattr(path, ATTRIBUTE, &mut value),
            false => rustix::fs::lgetxattr(path, ATTRIBUTE, &mut value),
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

/// Whether an attribute is one of atrest's own, which the mount neither shows nor lets be set.
pub fn is_own(attribute: &OsStr) -> bool {
    let attribute = attribute.as_encoded_bytes();
    attribute.starts_with(b"user.atrest.") || attribute.starts_with(b"trusted.atrest.")
}
