//! Vaults and key files as the command line uses them: what goes wrong gets its exit code here.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::format::VolumeId;
use crate::fs::Fs;
use crate::keys::{Held, KeyError, KeyFile, KeyRing, OpenKeyFile, Unlock};
use crate::store::{Access, Description, Vault, VaultError};

use super::exit::{Exit, Failure};
use super::key::{KeyChange, KeyChanged};

/// How long another process may take to mount the same vault.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long somebody holds a vault's lock who only asks whether it is free, and how often to look
/// before it counts as held.
const MOMENT: Duration = Duration::from_millis(5);
const MOMENTS: u32 = 4;

/// A key file that opened once, and opens again without asking. It keeps none of the master keys:
/// what is retired from the file is then gone.
#[derive(Debug)]
pub struct Keys {
    /// Where it lies.
    pub path: PathBuf,
    vault: VolumeId,
    held: Held,
}

impl Keys {
    /// Opens the key file of a vault: the one that is named, or the one in the default place.
    ///
    /// # Errors
    /// [`Exit::KeyFile`].
    pub fn open(
        vault: &VolumeId,
        named: Option<&Path>,
        unlock: &dyn Unlock,
    ) -> Result<Self, Failure> {
        let path = std::path::absolute(KeyFile::locate(vault, named)?)?;
        let held = KeyFile::open(&path, vault, unlock)?.held();
        Ok(Self { path, vault: *vault, held })
    }

    /// What the key file holds now.
    ///
    /// # Errors
    /// [`Exit::KeyFile`].
    pub fn read(&self) -> Result<OpenKeyFile, Failure> {
        Ok(KeyFile::open(&self.path, &self.vault, &self.held)?)
    }

    /// Changes what it holds; returns what `change` did, and what is in force then.
    ///
    /// # Errors
    /// [`Exit::KeyFile`], [`Exit::Key`]; nothing is changed then.
    pub fn edit<T>(
        &self,
        change: impl FnOnce(&mut OpenKeyFile) -> Result<T, KeyError>,
    ) -> Result<(T, OpenKeyFile), Failure> {
        Ok(KeyFile::edit(&self.path, &self.vault, &self.held, change)?)
    }
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
    // Whoever asks this holds the lock for a moment, too.
    let mut asked = 0;
    loop {
        let holder = Vault::holder(vault).map_err(|error| failure(vault, error))?;
        asked += 1;
        if holder.is_none() || asked == MOMENTS {
            return Ok(holder);
        }
        thread::sleep(MOMENT);
    }
}

/// A holder, as it is told to a person.
pub fn named(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// The right to make a vault's mount: who holds it looks, mounts and locks the vault while others
/// who want to do the same wait. It ends when all processes that inherited it have dropped it.
#[derive(Debug)]
pub struct Turn {
    /// Locked by flock(2); it goes with the last copy of the descriptor.
    _directory: Option<File>,
}

impl Turn {
    /// The turn to change the keys of a vault that nobody has open.
    ///
    /// # Errors
    /// [`Exit::Busy`] when somebody does.
    pub fn unused(vault: &Path) -> Result<Self, Failure> {
        let turn = Self::take(vault)?;
        match holder(vault)? {
            None => Ok(turn),
            Some(pid) => {
                let sentence = format!("the vault {} is in use by {}", vault.display(), named(pid));
                Err(Failure::new(Exit::Busy, sentence))
            }
        }
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// [`Exit::Busy`] when it does not come.
    pub fn take(vault: &Path) -> Result<Self, Failure> {
        let Ok(directory) = File::open(vault) else { return Ok(Self { _directory: None }) };
        let started = Instant::now();
        loop {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if started.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => {
                    let sentence =
                        format!("the vault {} is being mounted right now", vault.display());
                    return Err(Failure::new(Exit::Busy, sentence));
                }
                // A filesystem without such locks: two mounts in the same moment then meet at
                // the vault's own lock.
                Ok(()) | Err(_) => return Ok(Self { _directory: Some(directory) }),
            }
        }
    }
}

/// Opens a vault with its keys, and takes its lock.
///
/// # Errors
/// [`Exit::Busy`] when another process has it open, and what else [`failure`] tells apart.
pub fn open(vault: &Path, keys: &Keys, access: Access) -> Result<Fs, Failure> {
    let mut tried = 0;
    let opened = loop {
        tried += 1;
        match Vault::open(vault, keys.read()?.ring, access) {
            Err(VaultError::Locked(_)) if tried < MOMENTS => thread::sleep(MOMENT),
            opened => break opened.map_err(|error| failure(vault, error))?,
        }
    };
    Fs::new(opened)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", vault.display())))
}

/// Reads the key file again, into an open vault: it may have changed before the vault was locked.
///
/// # Errors
/// [`Exit::KeyFile`].
pub fn reread(keys: &Keys, fs: &Fs) -> Result<(), Failure> {
    fs.vault().context().replace_ring(keys.read()?.ring);
    Ok(())
}

/// Changes a master key in the key file, unless it is only for show; returns what it is then, and
/// the keys that are in force.
///
/// # Errors
/// [`Exit::KeyFile`], [`Exit::Key`]; nothing is changed then.
pub fn change(keys: &Keys, change: &KeyChange) -> Result<(KeyChanged, KeyRing), Failure> {
    if change.dry_run {
        let ring = keys.read()?.ring;
        return Ok((change.apply(&mut ring.clone())?, ring));
    }
    let (changed, file) = keys.edit(|file| change.apply(&mut file.ring))?;
    Ok((changed, file.ring))
}

/// Changes the master keys in the key file and in the vault that is open with them.
///
/// # Errors
/// [`Exit::KeyFile`], [`Exit::Key`]; nothing is changed then.
pub fn update<T>(
    keys: &Keys,
    fs: &Fs,
    change: impl FnOnce(&mut KeyRing) -> Result<T, KeyError>,
) -> Result<T, Failure> {
    let (done, file) = keys.edit(|file| change(&mut file.ring))?;
    fs.vault().context().replace_ring(file.ring);
    Ok(done)
}

/// Makes sure that a vault that nobody has open opens with these keys.
///
/// # Errors
/// [`Exit::Busy`], [`Exit::KeyFile`]; [`Exit::Vault`] for a vault that is damaged.
pub fn check_keys(vault: &Path, ring: &KeyRing) -> Result<(), Failure> {
    Vault::open(vault, ring.clone(), Access::ReadOnly)
        .map(drop)
        .map_err(|error| failure(vault, error))
}

/// The failure for what is wrong with a vault.
pub fn failure(vault: &Path, error: VaultError) -> Failure {
    let exit = match &error {
        VaultError::NotAVault
        | VaultError::NotEmpty
        | VaultError::Unmade(_)
        | VaultError::Unreachable(_)
        | VaultError::Unfit(_)
        | VaultError::Version(_)
        | VaultError::Damaged(_) => Exit::Vault,
        VaultError::OtherKeyFile { .. } => Exit::KeyFile,
        VaultError::Key(error) => exit_of(error),
        VaultError::Locked(_) => Exit::Busy,
        VaultError::Stopped | VaultError::Unrecovered(_) | VaultError::Outstanding { .. } => {
            Exit::Failed
        }
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
        Self::new(exit_of(&error), error.to_string())
    }
}

fn exit_of(error: &KeyError) -> Exit {
    if let KeyError::LocksOut { .. } = error {
        return Exit::Policy;
    }
    if error.is_refusal() { Exit::Key } else { Exit::KeyFile }
}
