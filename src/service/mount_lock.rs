//! The lock under which a vault is mounted, or its keys are changed while it is not.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::service::failure::{Exit, Failure, vault_failure};
use crate::store::{Holder, Vault};
use crate::sys::{self, Show};

/// How long somebody holds a vault's lock who only asks whether it is free, and how often to look
/// before it counts as held.
pub(super) const LOCK_RETRY_INTERVAL: Duration = Duration::from_millis(5);
pub(super) const LOCK_RETRIES: u32 = 4;

/// How long another process may take to mount the same vault.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(10);

/// The holder of a vault's lock, if there is one.
///
/// # Errors
/// [`Exit::Vault`] when it is none.
pub fn holder(vault: &Path) -> Result<Option<Holder>, Failure> {
    // The test takes the lock for a moment, too.
    let mut asked = 0;
    loop {
        let holder = Vault::holder(vault).map_err(|error| vault_failure(vault, error))?;
        asked += 1;
        if holder.is_none() || asked == LOCK_RETRIES {
            return Ok(holder);
        }
        thread::sleep(LOCK_RETRY_INTERVAL);
    }
}

/// A holder, as it is told to a person.
pub fn named(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// The right to make a vault's mount: who holds it looks, mounts and locks the vault while others
/// who want to do the same wait. It ends when all processes that inherited it have dropped it.
#[derive(Debug)]
pub struct MountLock {
    /// Locked by flock(2); it goes with the last copy of the descriptor.
    _directory: Option<OwnedFd>,
}

impl MountLock {
    /// The turn to change the keys of a vault that nobody has open.
    ///
    /// # Errors
    /// [`Exit::Busy`] when somebody does.
    pub fn unused(vault: &Path) -> Result<Self, Failure> {
        let turn = Self::take(vault)?;
        match holder(vault)? {
            None => Ok(turn),
            Some(Holder { pid }) => {
                let message = format!("the vault {} is in use by {}", vault.shown(), named(pid));
                Err(Failure::new(Exit::Busy, message))
            }
        }
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// [`Exit::Busy`] when it does not come.
    pub fn take(vault: &Path) -> Result<Self, Failure> {
        // Not the vault's directory: others may be let in there, and could hold its lock for ever.
        let Ok(directory) = Vault::metadata_directory(vault) else {
            return Ok(Self { _directory: None });
        };
        // An error is of a filesystem without such locks: two mounts in the same moment then meet at
        // the vault's own lock.
        if sys::try_lock_for(&directory, MOUNT_TIMEOUT).unwrap_or(true) {
            return Ok(Self { _directory: Some(directory) });
        }
        let message = format!("the vault {} is being mounted right now", vault.shown());
        Err(Failure::new(Exit::Busy, message))
    }
}
