//! The key file: a ring on disk, changed by one command at a time.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};

use super::KeyError;
use super::envelope::{Envelope, NotAKeyFile};
use super::mark::KeyFileMark;
use super::protector::NewProtector;
use super::protectors::Protectors;
use super::read::{MAX_LEN, read_key_file};
use super::replace::{Disk, Old, RealDisk, beside, parent, replace};
use super::ring::KeyRing;
use super::unlock::{Held, Unlock};
use crate::crypto::scrubbed_deep;
use crate::format::{KeyVersion, MasterKeyId, VolumeId};
use crate::sys::{self, Links};

/// What the lock's name ends with.
const LOCK: &str = ".lock";

/// The key file of a vault, by its path: what can be done with it.
#[derive(Debug, Clone, Copy)]
pub struct KeyFile;

/// An opened key file.
#[derive(Debug)]
pub struct OpenKeyFile {
    /// The vault's master keys.
    pub ring: KeyRing,
    /// Who can open the file.
    pub protectors: Protectors,
    mark: KeyFileMark,
}

impl KeyFile {
    /// Writes a new key file with these protectors, or a raw one when there are none. Directories
    /// that are missing are made with mode 0700.
    ///
    /// # Errors
    /// [`KeyError::Exists`] when anything is at `path`, [`KeyError::BadCost`],
    /// [`KeyError::NoMemory`], [`KeyError::Full`] above 16 protectors, [`KeyError::Io`].
    pub fn create(
        path: &Path,
        ring: &KeyRing,
        protectors: &[NewProtector],
    ) -> Result<KeyFileMark, KeyError> {
        Self::create_after(path, ring, protectors, 0)
    }

    /// [`KeyFile::create`] of one that takes the place of another, which was written so often.
    ///
    /// # Errors
    /// As [`KeyFile::create`].
    pub fn create_after(
        path: &Path,
        ring: &KeyRing,
        protectors: &[NewProtector],
        generation: u64,
    ) -> Result<KeyFileMark, KeyError> {
        let directory = parent(path);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
        made.map_err(|source| KeyError::io("create directory", &directory, source))?;
        let _lock = Lock::take(path)?;
        if fs::symlink_metadata(path).is_ok() {
            return Err(KeyError::Exists(path.to_owned()));
        }
        let mut protectors = Protectors::create(ring.volume_id(), protectors)?;
        write(&RealDisk, path, ring, &mut protectors, generation + 1, Old::None)
    }

    /// Takes away a key file that was made a moment ago and has wrapped nothing, with the lock
    /// beside it.
    ///
    /// # Errors
    /// What the system says.
    pub fn discard(path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        fs::remove_file(beside(path, LOCK))
    }

    /// Opens the key file of `vault`.
    ///
    /// # Errors
    /// About the file: [`KeyError::Missing`], [`KeyError::NotRegular`], [`KeyError::Exposed`],
    /// [`KeyError::WrongOwner`], [`KeyError::Damaged`], [`KeyError::FromTheFuture`],
    /// [`KeyError::OtherVault`], [`KeyError::Io`]. About opening it:
    /// [`KeyError::WrongPassphrase`], [`KeyError::ProtectorGone`], [`KeyError::NoMemory`], and
    /// what `unlock` gives.
    pub fn open(
        path: &Path,
        vault: &VolumeId,
        unlock: &dyn Unlock,
    ) -> Result<OpenKeyFile, KeyError> {
        open_bytes(path, &read_key_file(path)?, vault, unlock)
    }

    /// Changes what the key file at `path` holds and writes it, with nobody else changing it
    /// meanwhile: who comes later waits. Returns what `change` did and the new state.
    ///
    /// # Errors
    /// What [`KeyFile::open`] and `change` give, [`KeyError::Full`] above 16 MiB,
    /// [`KeyError::Io`] when it cannot be written; the old file stays then.
    pub fn edit<T, E: From<KeyError>>(
        path: &Path,
        vault: &VolumeId,
        unlock: &dyn Unlock,
        change: impl FnOnce(&mut OpenKeyFile) -> Result<T, E>,
    ) -> Result<(T, OpenKeyFile), E> {
        edit_on(&RealDisk, path, vault, unlock, change)
    }

    /// The vault that the key file at `path` says it belongs to. That is believed only once the
    /// file is opened.
    ///
    /// # Errors
    /// Those of [`KeyFile::open`] that are about the file.
    pub fn vault_of(path: &Path) -> Result<VolumeId, KeyError> {
        Ok(parse(path, &read_key_file(path)?)?.vault)
    }
}

impl OpenKeyFile {
    /// How often the file has been written.
    pub fn generation(&self) -> u64 {
        self.mark.generation
    }

    /// Which state of the file this is.
    pub fn mark(&self) -> &KeyFileMark {
        &self.mark
    }

    /// What opens the file again while the protector that opened it now stays.
    pub fn held(&self) -> Held {
        self.protectors.held()
    }

    /// What must not be found in an older copy once it is gone from this one.
    fn secrets(&self) -> BTreeSet<(MasterKeyId, KeyVersion)> {
        let with_material = |key: &super::MasterKey| {
            let present = key.versions.iter().filter(|version| version.material.is_some());
            present.map(|version| (key.id, version.number)).collect::<Vec<_>>()
        };
        self.ring.keys.iter().flat_map(with_material).collect()
    }
}

/// [`KeyFile::edit`] on a filesystem of the caller's choice.
pub(super) fn edit_on<T, E: From<KeyError>>(
    disk: &dyn Disk,
    path: &Path,
    vault: &VolumeId,
    unlock: &dyn Unlock,
    change: impl FnOnce(&mut OpenKeyFile) -> Result<T, E>,
) -> Result<(T, OpenKeyFile), E> {
    let path = &resolve(path)?;
    let _lock = Lock::take(path)?;
    let bytes = read_key_file(path)?;
    let mut file = open_bytes(path, &bytes, vault, unlock)?;
    let before = file.secrets();
    let done = change(&mut file)?;
    let forget = file.protectors.shut_someone_out() || !before.is_subset(&file.secrets());
    let old = if forget { Old::Forget } else { Old::Keep(&bytes) };
    let generation = file.generation() + 1;
    file.mark = write(disk, path, &file.ring, &mut file.protectors, generation, old)?;
    Ok((done, file))
}

/// The file itself, where `path` is a symlink to it: that is what gets replaced.
fn resolve(path: &Path) -> Result<PathBuf, KeyError> {
    fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(path.to_owned()),
        _ => KeyError::io("find key file", path, error),
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Envelope, KeyError> {
    Envelope::parse(bytes).map_err(|error| match error {
        NotAKeyFile::Damaged => KeyError::Damaged(path.to_owned()),
        NotAKeyFile::Version(version) => KeyError::FromTheFuture { path: path.to_owned(), version },
    })
}

fn open_bytes(
    path: &Path,
    bytes: &[u8],
    vault: &VolumeId,
    unlock: &dyn Unlock,
) -> Result<OpenKeyFile, KeyError> {
    let mut envelope = parse(path, bytes)?;
    if envelope.vault != *vault {
        let (found, wanted) = (envelope.vault, *vault);
        return Err(KeyError::OtherVault { path: path.to_owned(), found, wanted });
    }
    let slots = envelope.protectors.clone();
    let (protectors, key) = scrubbed_deep(|| Protectors::open(path, *vault, slots, unlock))?;
    let content = scrubbed_deep(|| envelope.to_content());
    let ring = scrubbed_deep(|| envelope.open(&key));
    let ring = ring.ok_or_else(|| KeyError::Damaged(path.to_owned()))?;
    let mark = scrubbed_deep(|| envelope.mark(&content, &key, &ring));
    Ok(OpenKeyFile { ring, protectors, mark })
}

fn write(
    disk: &dyn Disk,
    path: &Path,
    ring: &KeyRing,
    protectors: &mut Protectors,
    generation: u64,
    old: Old,
) -> Result<KeyFileMark, KeyError> {
    let (bytes, mark) = scrubbed_deep(|| {
        let key = protectors.rekey();
        let envelope = Envelope::seal(ring, generation, protectors.slots(), &key);
        (envelope.to_bytes(), envelope.mark(&envelope.to_content(), &key, ring))
    });
    if bytes.len() as u64 > MAX_LEN {
        return Err(KeyError::Full { what: "bytes", limit: MAX_LEN as usize });
    }
    replace(disk, path, &bytes, old).map_err(|error| match (error.kind(), old) {
        (io::ErrorKind::AlreadyExists, Old::None) => KeyError::Exists(path.to_owned()),
        _ => KeyError::io("write key file", path, error),
    })?;
    Ok(mark)
}

/// Held by whoever changes the key file: flock(2) on a file beside it, since the key file itself
/// is replaced. Freed on drop, or with the process.
struct Lock(#[expect(dead_code, reason = "the lock is the open file")] File);

impl Lock {
    fn take(path: &Path) -> Result<Self, KeyError> {
        let path = beside(path, LOCK);
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let opened = sys::open_regular(CWD, &path, flags, Links::Refuse);
        let file = opened.map_err(|error| KeyError::io("open", &path, error))?;
        sys::lock(&file).map_err(|error| KeyError::io("lock", &path, error))?;
        Ok(Self(file))
    }
}
