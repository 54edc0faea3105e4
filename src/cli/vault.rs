//! Vaults and key files as the command line uses them: what goes wrong gets its exit code here.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::{KeyVersion, VolumeId};
use crate::fs::Fs;
use crate::keys::{DEFAULT_KEY, KeyError, KeyFile, KeyRing, NoPassphrase, OpenKeyFile};
use crate::store::{Access, Description, Vault, VaultError};

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

/// Opens a vault with its keys, and takes its lock.
///
/// # Errors
/// [`Exit::Busy`] when another process has it open, and what else [`failure`] tells apart.
pub fn open(vault: &Path, keys: &Keys, access: Access) -> Result<Fs, Failure> {
    let opened = Vault::open(vault, keys.file.ring.clone(), access)
        .map_err(|error| failure(vault, error))?;
    Fs::new(opened)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", vault.display())))
}

/// Reads the key file again, into an open vault: it may have changed before the vault was locked.
///
/// # Errors
/// [`Exit::KeyFile`].
pub fn reread(keys: &Keys, fs: &Fs) -> Result<(), Failure> {
    let context = fs.vault().context();
    let file = KeyFile::open(&keys.path, &context.volume(), &keys.file.held())?;
    *context.ring().write() = file.ring;
    Ok(())
}

/// Adds a version to the master key, in the key file and in the vault that has it open.
///
/// # Errors
/// [`Exit::KeyFile`]; nothing is changed then.
pub fn rotate(keys: &Keys, fs: &Fs) -> Result<KeyVersion, Failure> {
    let context = fs.vault().context();
    let add = |ring: &mut KeyRing| ring.rotate(DEFAULT_KEY);
    let held = keys.file.held();
    let (version, file) = KeyFile::update(&keys.path, &context.volume(), &held, add)?;
    *context.ring().write() = file.ring;
    Ok(version)
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
        VaultError::Io(refusal) => match refusal.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                let vault = vault.display();
                let sentence = format!(
                    "the vault {vault} can't be written ({refusal}): mount it with --read-only"
                );
                return Failure::new(Exit::Vault, sentence);
            }
            _ => Exit::Failed,
        },
    };
    Failure::new(exit, format!("the vault {}: {error}", vault.display()))
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(Exit::KeyFile, error.to_string())
    }
}
