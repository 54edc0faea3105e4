//! Vaults and key files as the command line uses them: what goes wrong gets its exit code here.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::format::VolumeId;
use crate::fs::Fs;
use parking_lot::Mutex;

use crate::keys::{
    Fingerprints, Held, KeyDescription, KeyError, KeyFile, KeyFileMark, KeyRing, OpenKeyFile,
    Unlock,
};
use crate::store::{Access, Description, Evidence, Vault, VaultError};
use crate::sys::Show;

use super::exit::{Exit, Failure};
use super::key::KeyChange;

/// How long another process may take to mount the same vault.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long somebody holds a vault's lock who only asks whether it is free, and how often to look
/// before it counts as held.
const MOMENT: Duration = Duration::from_millis(5);
const MOMENTS: u32 = 4;

/// A key file that opened once, and opens again without asking, as long as it is the same or a later
/// one. It keeps none of the master keys: what is retired from the file is then gone.
#[derive(Debug)]
pub struct Keys {
    /// Where it lies.
    pub path: PathBuf,
    vault: VolumeId,
    held: Held,
    /// Which state of the file it was, and which keys it had.
    seen: Mutex<(KeyFileMark, Fingerprints)>,
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
        let file = KeyFile::open(&path, vault, unlock)?;
        let seen = Mutex::new((file.mark().clone(), file.ring.fingerprints()));
        Ok(Self { path, vault: *vault, held: file.held(), seen })
    }

    /// What the key file holds now.
    ///
    /// # Errors
    /// [`Exit::KeyFile`], also for one that is older than what was read before, or has other keys.
    pub fn read(&self) -> Result<OpenKeyFile, Failure> {
        // Held meanwhile, so that no later state is seen by another before this one is looked at.
        let mut seen = self.seen.lock();
        let file = KeyFile::open(&self.path, &self.vault, &self.held)?;
        self.require_later(&mut seen, &file)?;
        Ok(file)
    }

    fn require_later(
        &self,
        seen: &mut (KeyFileMark, Fingerprints),
        file: &OpenKeyFile,
    ) -> Result<(), KeyError> {
        if *file.mark() == seen.0 {
            return Ok(());
        }
        let prints = file.ring.fingerprints();
        if seen.0.contradicts(file.mark()).is_some() || !seen.1.lead_to(&prints) {
            return Err(KeyError::Replaced(self.path.clone()));
        }
        *seen = (file.mark().clone(), prints);
        Ok(())
    }

    /// Makes sure that somebody who is about to change the key file has read the state of it that
    /// is known here.
    ///
    /// # Errors
    /// [`Exit::Rollback`] for another one.
    pub fn require_known(&self, mark: &KeyFileMark) -> Result<(), Failure> {
        // Where it can't be opened any more, what was read last is known all the same.
        match self.read().map(drop) {
            Err(failure) if failure.exit == Exit::Rollback => return Err(failure),
            Ok(()) | Err(_) => {}
        }
        match *mark == self.seen.lock().0 {
            true => Ok(()),
            false => Err(KeyError::Replaced(self.path.clone()).into()),
        }
    }

    /// Takes it from who has changed the key file that its newest state is `mark`.
    pub fn expect(&self, mark: &KeyFileMark) {
        let mut seen = self.seen.lock();
        if mark.generation > seen.0.generation {
            seen.0 = mark.clone();
        }
    }

    /// Changes what it holds; returns what `change` did, and what is in force then.
    ///
    /// # Errors
    /// [`Exit::KeyFile`], [`Exit::Key`]; nothing is changed then.
    pub fn edit<T>(
        &self,
        change: impl FnOnce(&mut OpenKeyFile) -> Result<T, KeyError>,
    ) -> Result<(T, OpenKeyFile), Failure> {
        let edited = KeyFile::edit(&self.path, &self.vault, &self.held, |file| {
            self.require_later(&mut self.seen.lock(), file)?;
            change(file)
        })?;
        let mut seen = self.seen.lock();
        if edited.1.mark().generation > seen.0.generation {
            // What this process has made of the state before needs no proof.
            *seen = (edited.1.mark().clone(), edited.1.ring.fingerprints());
        }
        drop(seen);
        Ok(edited)
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
    _directory: Option<OwnedFd>,
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
                let sentence = format!("the vault {} is in use by {}", vault.shown(), named(pid));
                Err(Failure::new(Exit::Busy, sentence))
            }
        }
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// [`Exit::Busy`] when it does not come.
    pub fn take(vault: &Path) -> Result<Self, Failure> {
        // Not the vault's directory: others may be let in there, and could hold its lock for ever.
        let Ok(directory) = Vault::own_directory(vault) else {
            return Ok(Self { _directory: None });
        };
        let started = Instant::now();
        loop {
            match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) if started.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(5));
                }
                Err(Errno::WOULDBLOCK) => {
                    let sentence =
                        format!("the vault {} is being mounted right now", vault.shown());
                    return Err(Failure::new(Exit::Busy, sentence));
                }
                // A filesystem without such locks: two mounts in the same moment then meet at
                // the vault's own lock.
                Ok(()) | Err(_) => return Ok(Self { _directory: Some(directory) }),
            }
        }
    }
}

/// How a vault that was put back, or a copy, is treated.
#[derive(Debug, Clone, Copy, Default)]
pub struct Age {
    /// What was put back is accepted.
    pub accept_rollback: bool,
    /// The trail of a copy is not the original's.
    pub own_trail: bool,
}

/// Opens a vault with its keys, and takes its lock.
///
/// # Errors
/// [`Exit::Busy`] when another process has it open, [`Exit::Rollback`], and what else [`failure`] tells
/// apart.
pub fn open(vault: &Path, keys: &Keys, access: Access, age: Age) -> Result<Fs, Failure> {
    let mut tried = 0;
    let opened = loop {
        tried += 1;
        let file = keys.read()?;
        let Age { accept_rollback, own_trail } = age;
        let evidence =
            Evidence { accept_rollback, own_trail, ..Evidence::new(file.mark().clone()) };
        match Vault::open_fresh(vault, file.ring, access, &evidence) {
            Err(VaultError::Locked(_)) if tried < MOMENTS => thread::sleep(MOMENT),
            opened => break opened.map_err(|error| failure(vault, error))?,
        }
    };
    Fs::new(opened)
        .map_err(|error| Failure::new(Exit::Failed, format!("{}: {error}", vault.shown())))
}

/// Reads the key file again, into an open vault: it may have changed before the vault was locked.
///
/// # Errors
/// [`Exit::KeyFile`].
pub fn reread(keys: &Keys, fs: &Fs) -> Result<(), Failure> {
    adopt(fs, keys.read()?);
    Ok(())
}

/// The vault goes on with what the key file holds now.
pub fn adopt(fs: &Fs, file: OpenKeyFile) {
    let mark = file.mark().clone();
    fs.vault().go_on_with(&mark, file.ring);
}

/// Makes sure that a vault that nobody has open, and its key file, were not put back: a command that
/// changes the key file would make it the newest.
///
/// # Errors
/// [`Exit::Rollback`], [`Exit::KeyFile`].
pub fn require_newest(vault: &Path, keys: &Keys) -> Result<(), Failure> {
    let file = keys.read()?;
    let evidence = Evidence::new(file.mark().clone());
    match Vault::open_fresh(vault, file.ring, Access::ReadOnly, &evidence) {
        Err(
            error @ (VaultError::SetBack(_) | VaultError::Unproven(_) | VaultError::KeysApart(_)),
        ) => Err(failure(vault, error)),
        // What else is wrong is told by what needs the vault. Who has it open has looked.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Has a vault that nobody has open, and what is known of it, learn that this process has made this
/// state of its key file.
pub fn note_change(vault: &Path, ring: &KeyRing, mark: &KeyFileMark) {
    let evidence = Evidence { is_change: true, ..Evidence::new(mark.clone()) };
    let noted = Vault::open_fresh(vault, ring.clone(), Access::ReadOnly, &evidence)
        .and_then(|vault| vault.keep_key_file_mark());
    // Who mounts it next is told what is wrong with it.
    if let Err(error) = noted {
        log::debug!("{error}");
    }
}

/// Changes a master key in the key file, unless it is only for show; returns what it is then, and
/// the keys that are in force.
///
/// # Errors
/// [`Exit::KeyFile`], [`Exit::Key`]; nothing is changed then.
pub fn change(keys: &Keys, change: &KeyChange) -> Result<(KeyDescription, OpenKeyFile), Failure> {
    if change.dry_run {
        let file = keys.read()?;
        return Ok((change.apply(&mut file.ring.clone())?, file));
    }
    keys.edit(|file| change.apply(&mut file.ring))
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
    adopt(fs, file);
    Ok(done)
}

/// For whom the default policy of a vault is that nobody has open.
///
/// # Errors
/// [`Exit::Busy`], [`Exit::KeyFile`]; [`Exit::Vault`] for a vault that is damaged.
pub fn owner(vault: &Path, keys: &Keys) -> Result<u32, Failure> {
    Vault::open(vault, keys.read()?.ring, Access::ReadOnly)
        .map(|opened| opened.root_attrs().uid)
        .map_err(|error| failure(vault, error))
}

/// Makes sure that a vault that nobody has open opens with these keys; returns the newest state of its
/// key file that is known.
///
/// # Errors
/// [`Exit::Busy`], [`Exit::KeyFile`]; [`Exit::Vault`] for a vault that is damaged.
pub fn check_keys(vault: &Path, ring: &KeyRing) -> Result<KeyFileMark, Failure> {
    Vault::open(vault, ring.clone(), Access::ReadOnly)
        .map(|vault| vault.key_file_seen())
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
        VaultError::SetBack(_)
        | VaultError::Unproven(_)
        | VaultError::KeysApart(_)
        | VaultError::IsCopy(_) => Exit::Rollback,
        VaultError::Key(error) => exit_of(error),
        VaultError::Locked(_) => Exit::Busy,
        VaultError::Stopped | VaultError::Unrecovered(_) | VaultError::Outstanding { .. } => {
            Exit::Failed
        }
        VaultError::Io(refusal) => match refusal.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                let vault = vault.shown();
                let sentence = format!(
                    "the vault {vault} can't be written ({refusal}): mount it with --read-only"
                );
                return Failure::new(Exit::Vault, sentence);
            }
            _ => Exit::Failed,
        },
    };
    Failure::new(exit, format!("the vault {}: {error}", vault.shown()))
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(exit_of(&error), error.to_string())
    }
}

fn exit_of(error: &KeyError) -> Exit {
    match error {
        KeyError::LocksOut { .. } => return Exit::Policy,
        KeyError::Replaced(_) => return Exit::Rollback,
        _ => {}
    }
    if error.is_refusal() { Exit::Key } else { Exit::KeyFile }
}
