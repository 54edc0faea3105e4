//! A vault's key file that opened once, and opens again without asking.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::format::VaultId;
use crate::keys::{
    Fingerprints, HeldProtector, KeyError, KeyFile, KeyFileError, KeyFileMark, OpenKeyFile, Unlock,
};
use crate::service::failure::{Exit, Failure};

/// A key file that opened once, and opens again without asking, as long as it is the same or a later
/// one. It keeps no master key in memory: one that is retired from the file is gone.
#[derive(Debug)]
pub struct Keys {
    /// Where it lies.
    pub path: PathBuf,
    vault: VaultId,
    held: HeldProtector,
    /// Which state of the file it was, and which keys it had.
    seen: Mutex<(KeyFileMark, Fingerprints)>,
}

impl Keys {
    /// Opens the key file of a vault: the one that is named, or the one in the default place.
    ///
    /// # Errors
    /// [`Exit::KeyFile`].
    pub fn open(
        vault: &VaultId,
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
        if seen.0.contradicts(file.mark()).is_some() || !seen.1.may_precede(&prints) {
            return Err(KeyFileError::Replaced(self.path.clone()).into());
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
            false => Err(KeyError::from(KeyFileError::Replaced(self.path.clone())).into()),
        }
    }

    /// A client has changed the key file: `mark` is its newest state.
    pub fn expect(&self, mark: &KeyFileMark) {
        let mut seen = self.seen.lock();
        if mark.generation > seen.0.generation {
            seen.0 = mark.clone();
        }
    }

    /// Changes the key file; returns what `change` did, and the keys that are in force then.
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
