//! Tests of the layer as a whole, by what they show.

mod damage;
mod interrupted;
mod key_file;
mod lifecycle;
mod protectors;
mod recovery;
mod ring;

use std::path::PathBuf;

use super::*;
use crate::format::VolumeId;

/// A directory of its own, a ring, and a path for its key file.
struct Scratch {
    directory: tempfile::TempDir,
    ring: KeyRing,
}

impl Scratch {
    fn new() -> Self {
        let ring = KeyRing::create(VolumeId::random());
        Self { directory: tempfile::tempdir().unwrap(), ring }
    }

    /// With a key file under these protectors.
    fn with(protectors: &[NewProtector]) -> Self {
        let scratch = Self::new();
        KeyFile::create(&scratch.path(), &scratch.ring, protectors).unwrap();
        scratch
    }

    fn vault(&self) -> VolumeId {
        self.ring.volume_id()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keys.json")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.directory.path().join(format!("keys.json{suffix}"))
    }

    fn open(&self, unlock: &dyn Unlock) -> Result<OpenKeyFile, KeyError> {
        KeyFile::open(&self.path(), &self.vault(), unlock)
    }

    fn update<T>(
        &self,
        unlock: &dyn Unlock,
        change: impl FnOnce(&mut KeyRing) -> Result<T, KeyError>,
    ) -> Result<(T, OpenKeyFile), KeyError> {
        KeyFile::edit(&self.path(), &self.vault(), unlock, |file| change(&mut file.ring))
    }

    fn edit<T>(
        &self,
        unlock: &dyn Unlock,
        change: impl FnOnce(&mut OpenKeyFile) -> Result<T, KeyError>,
    ) -> Result<(T, OpenKeyFile), KeyError> {
        KeyFile::edit(&self.path(), &self.vault(), unlock, change)
    }
}

fn secret_of(text: &str) -> Passphrase {
    Passphrase::new(text.into()).unwrap()
}

/// A passphrase that costs next to nothing, which is enough for what is tested.
fn cheap(text: &str) -> NewProtector {
    let cost = PassphraseCost { memory_kib: 8, passes: 1, lanes: 1 };
    NewProtector::Passphrase { passphrase: secret_of(text), cost }
}
