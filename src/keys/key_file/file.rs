//! The key file: a ring on disk, changed by one command at a time.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};

use super::envelope::{Envelope, NotAKeyFile};
use super::mark::KeyFileMark;
use super::read::{MAX_LEN, read_key_file};
use super::replace::{Disk, Old, RealDisk, beside, parent, replace};
use crate::crypto::scrubbed_deep;
use crate::format::{KeyVersion, MasterKeyId, VaultId};
use crate::keys::protectors::{HeldProtector, NewProtector, Protectors, Unlock};
use crate::keys::ring::{KeyRing, MasterKey};
use crate::keys::{KeyError, KeyFileError};
use crate::sys::{self, Links};

/// What the lock's name ends with.
const LOCK: &str = ".lock";

/// Operations on the key file of a vault, by its path.
#[derive(Debug, Clone, Copy)]
pub struct KeyFile;

/// An opened key file.
#[derive(Debug)]
pub struct OpenKeyFile {
    /// The vault's master keys.
    pub ring: KeyRing,
    /// The protectors of the file.
    pub protectors: Protectors,
    mark: KeyFileMark,
}

impl KeyFile {
    /// Writes a new key file with these protectors, or with a raw one when there are none. Missing
    /// directories are created with mode 0700.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] when anything is at `path`, [`KeyFileError::Io`],
    /// [`KeyError::Protector`] for a cost that is out of range or for which there is no memory,
    /// [`KeyError::Full`] above 16 protectors.
    pub fn create(
        path: &Path,
        ring: &KeyRing,
        protectors: &[NewProtector],
    ) -> Result<KeyFileMark, KeyError> {
        Self::create_after(path, ring, protectors, 0)
    }

    /// [`KeyFile::create`] for a file that replaces another one, of this generation.
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
        made.map_err(|source| KeyFileError::io("create directory", &directory, source))?;
        let _lock = Lock::take(path)?;
        if fs::symlink_metadata(path).is_ok() {
            return Err(KeyFileError::Exists(path.to_owned()).into());
        }
        let mut protectors = Protectors::create(ring.vault_id(), protectors)?;
        write(&RealDisk, path, ring, &mut protectors, generation + 1, Old::None)
    }

    /// Removes a new key file, whose keys have wrapped nothing, and the lock beside it.
    ///
    /// # Errors
    /// Those of unlink(2).
    pub fn discard(path: &Path) -> io::Result<()> {
        fs::remove_file(path)?;
        fs::remove_file(beside(path, LOCK))
    }

    /// Opens the key file of `vault`.
    ///
    /// # Errors
    /// [`KeyError::KeyFile`] about the file; [`KeyError::Protector`] where the passphrase does not open
    /// it or costs too much; those of `unlock`.
    pub fn open(
        path: &Path,
        vault: &VaultId,
        unlock: &dyn Unlock,
    ) -> Result<OpenKeyFile, KeyError> {
        open_bytes(path, &read_key_file(path)?, vault, unlock)
    }

    /// Changes the key file at `path` under its lock, which other callers wait for. Returns the result
    /// of `change` and the new state. On failure the old file stays.
    ///
    /// # Errors
    /// Those of [`KeyFile::open`] and `change`, [`KeyError::Full`] above 16 MiB,
    /// [`KeyFileError::Io`] when it cannot be written.
    pub fn edit<T, E: From<KeyError>>(
        path: &Path,
        vault: &VaultId,
        unlock: &dyn Unlock,
        change: impl FnOnce(&mut OpenKeyFile) -> Result<T, E>,
    ) -> Result<(T, OpenKeyFile), E> {
        edit_on(&RealDisk, path, vault, unlock, change)
    }

    /// The vault that the key file at `path` names. It is authenticated only by opening the file.
    ///
    /// # Errors
    /// Those of [`KeyFile::open`] about the file.
    pub fn vault_of(path: &Path) -> Result<VaultId, KeyError> {
        Ok(parse(path, &read_key_file(path)?)?.vault)
    }
}

impl OpenKeyFile {
    /// How many times the file was written.
    pub fn generation(&self) -> u64 {
        self.mark.generation
    }

    /// The mark of this state of the file.
    pub fn mark(&self) -> &KeyFileMark {
        &self.mark
    }

    /// The protector that opened the file, which opens later states while the file keeps it.
    pub fn held(&self) -> HeldProtector {
        self.protectors.held()
    }

    /// The versions with material. Once one is removed, no older copy of the file may keep it.
    fn secrets(&self) -> BTreeSet<(MasterKeyId, KeyVersion)> {
        let with_material = |key: &MasterKey| {
            let present = key.versions.iter().filter(|version| version.material.is_some());
            present.map(|version| (key.id, version.number)).collect::<Vec<_>>()
        };
        self.ring.keys.iter().flat_map(with_material).collect()
    }
}

/// [`KeyFile::edit`] on any [`Disk`].
pub(super) fn edit_on<T, E: From<KeyError>>(
    disk: &dyn Disk,
    path: &Path,
    vault: &VaultId,
    unlock: &dyn Unlock,
    change: impl FnOnce(&mut OpenKeyFile) -> Result<T, E>,
) -> Result<(T, OpenKeyFile), E> {
    let path = &resolve(path).map_err(KeyError::from)?;
    let _lock = Lock::take(path).map_err(KeyError::from)?;
    let bytes = read_key_file(path).map_err(KeyError::from)?;
    let mut file = open_bytes(path, &bytes, vault, unlock)?;
    let before = file.secrets();
    let done = change(&mut file)?;
    let forget = file.protectors.removed_any() || !before.is_subset(&file.secrets());
    let old = if forget { Old::Forget } else { Old::Keep(&bytes) };
    let generation = file.generation() + 1;
    file.mark = write(disk, path, &file.ring, &mut file.protectors, generation, old)?;
    Ok((done, file))
}

/// Follows symbolic links, so that their target is replaced and not a link.
fn resolve(path: &Path) -> Result<PathBuf, KeyFileError> {
    fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ => KeyFileError::io("find key file", path, error),
    })
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Envelope, KeyFileError> {
    Envelope::parse(bytes).map_err(|error| match error {
        NotAKeyFile::Damaged => KeyFileError::Damaged(path.to_owned()),
        NotAKeyFile::Version(version) => {
            KeyFileError::FromTheFuture { path: path.to_owned(), version }
        }
    })
}

fn open_bytes(
    path: &Path,
    bytes: &[u8],
    vault: &VaultId,
    unlock: &dyn Unlock,
) -> Result<OpenKeyFile, KeyError> {
    let mut envelope = parse(path, bytes)?;
    if envelope.vault != *vault {
        let (found, wanted) = (envelope.vault, *vault);
        return Err(KeyFileError::OtherVault { path: path.to_owned(), found, wanted }.into());
    }
    let slots = envelope.protectors.clone();
    let (protectors, key) = scrubbed_deep(|| Protectors::open(path, *vault, slots, unlock))?;
    let content = scrubbed_deep(|| envelope.to_content());
    let ring = scrubbed_deep(|| envelope.open(&key));
    let ring = ring.ok_or_else(|| KeyFileError::Damaged(path.to_owned()))?;
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
        (io::ErrorKind::AlreadyExists, Old::None) => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::io("write key file", path, error),
    })?;
    Ok(mark)
}

/// The lock for changes of the key file: flock(2) on a file beside it, since the key file itself is
/// replaced. Released on drop, or when the process ends.
struct Lock(#[expect(dead_code, reason = "the lock is the open file")] File);

impl Lock {
    fn take(path: &Path) -> Result<Self, KeyFileError> {
        let path = beside(path, LOCK);
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let opened = sys::open_regular(CWD, &path, flags, Links::Refuse);
        let file = opened.map_err(|error| KeyFileError::io("open", &path, error))?;
        sys::lock(&file).map_err(|error| KeyFileError::io("lock", &path, error))?;
        Ok(Self(file))
    }
}
