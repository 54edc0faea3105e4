//! Vaults and key files as the command line uses them: what goes wrong gets its exit code here.

use std::path::Path;
use std::thread;

use crate::fs::Fs;

use crate::keys::{KeyDescription, KeyError, KeyFileMark, KeyRing, OpenKeyFile};
use crate::service::failure::{Exit, Failure, vault_failure};
use crate::service::key_change::KeyChange;
use crate::service::keys::Keys;
use crate::service::mount_lock::{LOCK_RETRIES, LOCK_RETRY_INTERVAL};
use crate::store::{Access, Description, Evidence, Vault, VaultError};
use crate::sys::Show;

/// What can be known of a vault without its key.
///
/// # Errors
/// [`Exit::Vault`] when it is none.
pub fn describe(vault: &Path) -> Result<Description, Failure> {
    Vault::describe(vault).map_err(|error| vault_failure(vault, error))
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
            Err(VaultError::Locked(_)) if tried < LOCK_RETRIES => {
                thread::sleep(LOCK_RETRY_INTERVAL)
            }
            opened => break opened.map_err(|error| vault_failure(vault, error))?,
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
    match Vault::open_fresh(vault, file.ring.ignoring_states(), Access::ReadOnly, &evidence) {
        Err(
            error @ (VaultError::SetBack(_) | VaultError::Unproven(_) | VaultError::KeysApart(_)),
        ) => Err(vault_failure(vault, error)),
        // Any other error is reported by the caller that needs the vault. A daemon that has it open has
        // checked it.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Has a vault that nobody has open, and what is known of it, learn that this process has made this
/// state of its key file.
pub fn note_change(vault: &Path, ring: &KeyRing, mark: &KeyFileMark) {
    let evidence = Evidence { is_change: true, ..Evidence::new(mark.clone()) };
    let noted = Vault::open_fresh(vault, ring.ignoring_states(), Access::ReadOnly, &evidence)
        .and_then(|vault| vault.keep_key_file_mark());
    // The next mount reports it.
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

/// The user that the default policy of a vault allows everything; the vault is not open.
///
/// # Errors
/// [`Exit::Busy`], [`Exit::KeyFile`]; [`Exit::Vault`] for a vault that is damaged.
pub fn owner(vault: &Path, keys: &Keys) -> Result<u32, Failure> {
    Vault::open(vault, keys.read()?.ring, Access::ReadOnly)
        .map(|opened| opened.root_attrs().uid)
        .map_err(|error| vault_failure(vault, error))
}

/// Makes sure that a vault that nobody has open opens with these keys; returns the newest state of its
/// key file that is known.
///
/// # Errors
/// [`Exit::Busy`], [`Exit::KeyFile`]; [`Exit::Vault`] for a vault that is damaged.
pub fn check_keys(vault: &Path, ring: &KeyRing) -> Result<KeyFileMark, Failure> {
    Vault::open(vault, ring.clone(), Access::ReadOnly)
        .map(|vault| vault.key_file_seen())
        .map_err(|error| vault_failure(vault, error))
}
