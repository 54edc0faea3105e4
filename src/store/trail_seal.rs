//! Where a vault keeps how far its trail has come.

use std::io;
use std::path::Path;

use super::VaultError;
use super::access::Access;
use super::description::open_own_files;
use super::own_files::OwnFiles;
use crate::trail::SealKeeper;

const FILE: &str = "trail.json";

/// The file below `.atrest/`. It takes no key, and so can be kept while the vault's are out of use;
/// the trail authenticates it.
#[derive(Debug)]
pub struct TrailSeal {
    own: OwnFiles,
    access: Access,
}

impl TrailSeal {
    /// Of the vault in `dir`. For reading alone writing is refused, as on a read-only filesystem.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault.
    pub fn of(dir: &Path, access: Access) -> Result<Self, VaultError> {
        Ok(Self { own: open_own_files(dir)?, access })
    }
}

impl TrailSeal {
    /// Of an open vault.
    ///
    /// # Errors
    /// EMFILE.
    pub(super) fn over(own: &OwnFiles, access: Access) -> io::Result<Self> {
        Ok(Self { own: own.try_clone()?, access })
    }
}

impl SealKeeper for TrailSeal {
    fn read(&self) -> io::Result<Option<Vec<u8>>> {
        match self.own.read(FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }

    fn write(&self, bytes: &[u8], durable: bool) -> io::Result<()> {
        match (self.access, durable) {
            (Access::ReadOnly, _) => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            (Access::ReadWrite, true) => self.own.replace(FILE, bytes),
            (Access::ReadWrite, false) => self.own.replace_loosely(FILE, bytes),
        }
    }
}
