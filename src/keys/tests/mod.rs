//! What the tests of this layer share.

pub(super) use std::path::PathBuf;

pub(super) use super::*;
pub(super) use crate::format::VaultId;

/// A directory of its own, a ring, and a path for its key file.
pub(super) struct Scratch {
    pub(super) directory: tempfile::TempDir,
    pub(super) ring: KeyRing,
}

impl Scratch {
    pub(super) fn new() -> Self {
        let ring = KeyRing::create(VaultId::random());
        Self { directory: tempfile::tempdir().unwrap(), ring }
    }

    /// With a key file under these protectors.
    pub(super) fn with(protectors: &[NewProtector]) -> Self {
        let scratch = Self::new();
        KeyFile::create(&scratch.path(), &scratch.ring, protectors).unwrap();
        scratch
    }

    pub(super) fn vault(&self) -> VaultId {
        self.ring.vault_id()
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("keys.json")
    }

    pub(super) fn beside(&self, suffix: &str) -> PathBuf {
        self.directory.path().join(format!("keys.json{suffix}"))
    }

    pub(super) fn open(&self, unlock: &dyn Unlock) -> Result<OpenKeyFile, KeyError> {
        KeyFile::open(&self.path(), &self.vault(), unlock)
    }

    pub(super) fn update<T>(
        &self,
        unlock: &dyn Unlock,
        change: impl FnOnce(&mut KeyRing) -> Result<T, KeyError>,
    ) -> Result<(T, OpenKeyFile), KeyError> {
        KeyFile::edit(&self.path(), &self.vault(), unlock, |file| change(&mut file.ring))
    }

    pub(super) fn edit<T>(
        &self,
        unlock: &dyn Unlock,
        change: impl FnOnce(&mut OpenKeyFile) -> Result<T, KeyError>,
    ) -> Result<(T, OpenKeyFile), KeyError> {
        KeyFile::edit(&self.path(), &self.vault(), unlock, change)
    }
}

pub(super) fn secret_of(text: &str) -> Passphrase {
    Passphrase::new(text.into()).unwrap()
}

/// A passphrase that costs next to nothing, which is enough for what is tested.
pub(super) fn cheap(text: &str) -> NewProtector {
    let cost = PassphraseCost { memory_kib: 8, passes: 1, lanes: 1 };
    NewProtector::Passphrase { passphrase: secret_of(text), cost }
}
