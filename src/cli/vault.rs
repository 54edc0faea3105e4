//! Vaults and key files as the command line uses them: what goes wrong gets its exit code here.

use std::path::{Path, PathBuf};

use crate::format::VolumeId;
use crate::keys::{KeyError, KeyFile, NoPassphrase, OpenKeyFile};
use crate::store::{Description, Vault, VaultError};

use super::exit::{Exit, Failure};

/// A key file and what it holds.
#[derive(Debug)]
pub struct Keys {
    /// Where it lies.
    pub path: PathBuf,
    /// What it holds.
    pub file: OpenKeyFile,
}

/// What can be known of a vault without its key.
///
/// # Errors
/// [`Exit::Vault`] when it is none.
pub fn describe(vault: &Path) -> Result<Description, Failure> {
    Vault::describe(vault).map_err(|error| failure(vault, error))
}

/// Who has a vault open; the process is known unless it only reads.
///
/// # Errors
/// [`Exit::Vault`] when it is none.
pub fn holder(vault: &Path) -> Result<Option<Option<u32>>, Failure> {
    Vault::holder(vault).map_err(|error| failure(vault, error))
}

/// A holder, as it is told to a person.
pub fn named(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Opens the key file of a vault: the one that is named, or the one in the default place.
///
/// # Errors
/// [`Exit::KeyFile`].
pub fn keys(vault: &VolumeId, named: Option<&Path>) -> Result<Keys, Failure> {
    let path = KeyFile::locate(vault, named)?;
    let path = std::path::absolute(&path)?;
    let file = KeyFile::open(&path, vault, &NoPassphrase)?;
    Ok(Keys { path, file })
}

/// The failure for what is wrong with a vault.
pub fn failure(vault: &Path, error: VaultError) -> Failure {
    let exit = match &error {
        VaultError::NotAVault
        | VaultError::NotEmpty
        | VaultError::Unreachable(_)
        | VaultError::Version(_)
        | VaultError::Damaged(_) => Exit::Vault,
        VaultError::OtherKeyFile { .. } | VaultError::Key(_) => Exit::KeyFile,
        VaultError::Locked(_) => Exit::Busy,
        VaultError::Io(_) => Exit::Failed,
    };
    Failure::new(exit, format!("the vault {}: {error}", vault.display()))
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(Exit::KeyFile, error.to_string())
    }
}
