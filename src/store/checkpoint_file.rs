//! The file in which a vault keeps the checkpoint of its trail.

use std::io;
use std::path::Path;

use super::VaultError;
use super::access::Access;
use super::description::open_own_files;
use super::own_files::OwnFiles;
use crate::trail::{CheckpointStore, Durability};

const FILE: &str = "trail.json";

/// The file below `.atrest/`. The trail authenticates it with a key of its own, so that it can be
/// written while the vault's keys are disabled.
#[derive(Debug)]
pub struct CheckpointFile {
    own: OwnFiles,
    access: Access,
}

impl CheckpointFile {
    /// Of the vault in `dir`. For reading alone writing is refused, as on a read-only filesystem.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault.
    pub fn of(dir: &Path, access: Access) -> Result<Self, VaultError> {
        Ok(Self { own: open_own_files(dir)?, access })
    }
}

impl CheckpointFile {
    /// Of an open vault.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn over(own: &OwnFiles, access: Access) -> io::Result<Self> {
        Ok(Self { own: own.try_clone()?, access })
    }
}

impl CheckpointStore for CheckpointFile {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match self.own.read(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn write(&self, bytes: &[u8], durability: Durability) -> io::Result<()> {
        match (self.access, durability) {
            (Access::ReadOnly, _) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            (Access::ReadWrite, Durability::Durable) => self.own.replace(FILE, bytes),
            (Access::ReadWrite, Durability::Buffered) => self.own.replace_loosely(FILE, bytes),
        }
    }
}
