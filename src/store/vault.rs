//! A vault: its directory, its lock, its description and its record of mounts.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::description::{Description, NameMode};
use super::own_files::OwnFiles;
use super::probe::{Lack, ProbeError, Unfit, probe};
use super::{Context, EpochRecord, Names, state};
use crate::crypto::{Secret, VaultKeys};
use crate::format::{Epoch, FORMAT_VERSION, FileId, HEADER_LEN, Header, MasterKeyId, VolumeId};
use crate::keys::{KeyError, KeyRing};

/// The name in the vault's root of the directory that holds the vault's own files.
pub const OWN_DIR: &str = ".atrest";
const LOCK: &str = "lock";
/// Bytes of the lock file at least, which is never cut to less and written in place: on a full disk
/// it has room already.
const LOCK_LEN: usize = 512;
const CHANGE_TIMES: &str = "ctimes";
const LONGEST_CHANGE_TIMES: u64 = 32 * 1024 * 1024;

/// Why a vault can't be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No description is there.
    #[error("it is not a vault: it has no {OWN_DIR}/vault.json (make one with `atrest init`)")]
    NotAVault,
    /// A vault is made in an empty directory alone.
    #[error("it is not empty: a vault is made in a new or an empty directory")]
    NotEmpty,
    /// Not a directory, or not one that can be opened.
    #[error("it can't be opened: {0}")]
    Unreachable(io::Error),
    /// Its directory can't be made.
    #[error("it can't be made: {0}")]
    Unmade(io::Error),
    /// A format that this program does not know.
    #[error(
        "it is of format version {0}, and this program reads version {FORMAT_VERSION}: use a newer atrest"
    )]
    Version(u16),
    /// A file of the vault's own is not what was written.
    #[error("its file {OWN_DIR}/{0} is damaged or was changed: restore it from a backup")]
    Damaged(&'static str),
    /// The keys are those of another vault.
    #[error("the key file belongs to vault {keys}, not to this one, {vault}")]
    OtherKeyFile {
        /// The vault's id.
        vault: VolumeId,
        /// The id in the key file.
        keys: VolumeId,
    },
    /// Somebody has it open.
    #[error("it is in use{}: unmount it first", .0.map_or_else(String::new, |pid| format!(" by process {pid}")))]
    Locked(Option<u32>),
    /// The filesystem that it is on can't carry a vault.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Work on all its files was told to stop.
    #[error("the work was stopped before its end, and did no harm: run it again to finish")]
    Stopped,
    /// Not all files could be recovered after a crash.
    #[error("{0} files could not be recovered")]
    Unrecovered(u64),
    /// Files could not be completed at the end of a mount.
    #[error("{}", outstanding(*.files, .reason.as_deref()))]
    Outstanding {
        /// How many.
        files: u64,
        /// What keeps the first of them from it, where that is known.
        reason: Option<String>,
    },
    /// The backing filesystem failed.
    #[error("the backing filesystem says: {0}")]
    Io(#[from] io::Error),
    /// The master key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<ProbeError> for VaultError {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::Unfit(unfit) => Self::Unfit(unfit),
            ProbeError::Io(error) => Self::Io(error),
        }
    }
}

impl From<Errno> for VaultError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// How a vault is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// For reading alone: nothing in the vault is written, not even the record of mounts.
    ReadOnly,
    /// For everything.
    ReadWrite,
}

/// An open vault. One process has it at a time; see [`Vault::close`].
#[derive(Debug)]
pub struct Vault {
    root: OwnedFd,
    own: OwnFiles,
    lock: File,
    access: Access,
    lacks: Vec<Lack>,
    description: Mutex<Description>,
    vault_key: Secret,
    context: Arc<Context>,
    /// See [`Vault::sync`].
    failed_sync: OnceLock<Errno>,
}

impl Vault {
    /// Makes a vault in `dir`, which is made too if it is not there.
    ///
    /// # Errors
    /// [`VaultError::NotEmpty`]; [`VaultError::Unmade`], [`VaultError::Unreachable`];
    /// [`VaultError::Io`]: nothing of a
    /// vault is left behind then.
    pub fn create(dir: &Path, ring: &KeyRing, names: NameMode) -> Result<(), VaultError> {
        let made = match std::fs::create_dir(dir) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => error.into(),
                    _ => VaultError::Unmade(error),
                });
            }
        };
        let created = create_in(dir, ring, names);
        if made && created.is_err() {
            // Only an empty directory goes; what is in the way is told by `created`.
            let _ = std::fs::remove_dir(dir);
        }
        created
    }

    /// Reads a vault's description, which needs no key and is not authenticated.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault of this format.
    pub fn describe(dir: &Path) -> Result<Description, VaultError> {
        Ok(Description::read(&open_own_files(dir)?)?.0)
    }

    /// The newest writable mount of the vault in `dir`, as its record says without being
    /// authenticated; `None` where that can't be read.
    pub fn newest_epoch(dir: &Path) -> Option<Epoch> {
        Some(state::peek(&open_own_files(dir).ok()?)?.current)
    }

    /// The id of the file at `path` in the vault in `dir`, as its header says without being
    /// authenticated; `None` where that can't be read, or the file has no content.
    pub fn file_id(dir: &Path, path: &Path) -> Option<FileId> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let root = open_dir(dir).ok()?;
        let file = rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).ok()?;
        let mut bytes = [0; HEADER_LEN];
        File::from(file).read_exact_at(&mut bytes, 0).ok()?;
        Some(Header::parse(&bytes).ok()?.file_id)
    }

    /// Who has the vault in `dir` open, if anybody: the process id where it is known.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault.
    pub fn holder(dir: &Path) -> Result<Option<Option<u32>>, VaultError> {
        match lock(&open_own_files(dir)?) {
            Ok(_) => Ok(None),
            Err(VaultError::Locked(pid)) => Ok(Some(pid)),
            Err(error) => Err(error),
        }
    }

    /// Opens the vault in `dir` with its keys.
    ///
    /// # Errors
    /// [`VaultError`]: nothing is changed then.
    pub fn open(dir: &Path, ring: KeyRing, access: Access) -> Result<Self, VaultError> {
        let root = open_dir(dir)?;
        let own = own_files(&root)?;
        let (description, mac) = Description::read(&own)?;
        let vault_key = description.unlock(&mac, &ring)?;
        let lock = lock(&own)?;
        let state_key = VaultKeys::derive(&vault_key, description.vault.as_bytes()).state;
        let record = state::read(&own, &state_key)?;
        let mut lacks = Vec::new();
        let record = match access {
            Access::ReadOnly => record.observe(),
            Access::ReadWrite => {
                lacks = probe(&own)?;
                if record.open {
                    // What a mount that died left in the page cache is seen as if it were durable.
                    rustix::fs::syncfs(&root)?;
                }
                let begun = record.begin();
                state::write(&own, &state_key, &begun)?;
                note_holder(&lock)?;
                begun
            }
        };
        let context = Arc::new(Context::new(ring, record));
        Ok(Self {
            root,
            own,
            lock,
            access,
            lacks,
            description: Mutex::new(description),
            vault_key,
            context,
            failed_sync: OnceLock::new(),
        })
    }

    /// Marks this mount as cleanly ended, after everything else has reached the disk. The caller
    /// has committed all headers but those of `outstanding` files, for that `reason`; `all_synced`
    /// says that it has made each file durable that was written. Without this call, or with
    /// something outstanding, the mount counts as crashed.
    ///
    /// # Errors
    /// [`VaultError::Outstanding`]; [`VaultError::Io`]: the mount counts as crashed then.
    pub fn close(
        &self,
        all_synced: bool,
        outstanding: u64,
        reason: Option<&str>,
    ) -> Result<(), VaultError> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        if outstanding > 0 {
            let failure =
                VaultError::Outstanding { files: outstanding, reason: reason.map(str::to_owned) };
            self.note_end(&failure.to_string());
            return Err(failure);
        }
        let ended = if all_synced && self.keeps_order() { Ok(()) } else { self.sync() };
        let ended = ended.and_then(|()| {
            state::write(&self.own, &self.keys().state, &self.context.epochs_at_end())
        });
        match &ended {
            Ok(()) => self.note_end(""),
            Err(error) => self.note_end(&error.to_string()),
        }
        ended
    }

    /// Whether the backing filesystem makes changes of directories durable in their order, so that
    /// the record of this mount's end, the last of them, comes after all others. Both journal
    /// them; and memory keeps nothing anyway.
    fn keeps_order(&self) -> bool {
        /// statfs(2), `f_type`.
        const EXT4: i64 = 0xef53;
        const XFS: i64 = 0x5846_5342;
        const TMPFS: i64 = 0x0102_1994;
        rustix::fs::fstatfs(&self.root)
            .is_ok_and(|found| matches!(found.f_type, EXT4 | XFS | TMPFS))
    }

    /// Leaves in the lock file how the mount ended, for [`Vault::last_end`]: in the first place for
    /// a person, so what can't be written there is no failure.
    fn note_end(&self, sentence: &str) {
        let line = match sentence {
            "" => String::new(),
            sentence => format!("{}\n{sentence}\n", std::process::id()),
        };
        let _ = write_lock(&self.lock, line);
    }

    /// How the writable mount of the daemon `pid` ended that had the vault in `dir`: `None` for
    /// cleanly, or where that is not known any more; else what kept it from that, empty where the
    /// daemon died.
    pub fn last_end(dir: &Path, pid: Option<u32>) -> Option<String> {
        let noted = open_own_files(dir).and_then(|own| Ok(own.read(LOCK)?));
        let noted = String::from_utf8_lossy(&noted.ok()?).into_owned();
        let (by, sentence) = noted.split_once('\n')?;
        (by.parse().ok() == Some(pid?)).then(|| sentence.trim_end().to_owned())
    }

    /// What the last mount kept of times of change; empty where there is nothing of the kind.
    pub fn change_times(&self) -> Vec<u8> {
        self.own.read_up_to(CHANGE_TIMES, LONGEST_CHANGE_TIMES).unwrap_or_default()
    }

    /// Keeps times of change for the next mount.
    ///
    /// # Errors
    /// What the backing filesystem says; what was kept before is then still there.
    pub fn keep_change_times(&self, bytes: &[u8]) -> io::Result<()> {
        match self.access {
            Access::ReadOnly => Ok(()),
            Access::ReadWrite => self.own.replace_loosely(CHANGE_TIMES, bytes),
        }
    }

    /// Makes all that was written to the backing filesystem durable.
    ///
    /// # Errors
    /// [`VaultError::Io`]: nothing can be said then of what is durable. The kernel reports a lost
    /// write once, and no later sync brings it back: each one of this mount fails from there on.
    pub fn sync(&self) -> Result<(), VaultError> {
        if let Some(errno) = self.failed_sync.get() {
            return Err((*errno).into());
        }
        rustix::fs::syncfs(&self.root)
            .map_err(|errno| (*self.failed_sync.get_or_init(|| errno)).into())
    }

    /// Brings the vault key to the newest version of the master key `to`, or of its own where
    /// none is named; whether it was not yet. It is durable then. Unless `write`, only says so.
    ///
    /// # Errors
    /// [`VaultError`]: the description is then the old one.
    pub fn rewrap_vault_key(
        &self,
        to: Option<MasterKeyId>,
        write: bool,
    ) -> Result<bool, VaultError> {
        let mut description = self.description.lock();
        let newer = description.rewrap(&self.context.ring(), &self.vault_key, to)?;
        let Some(newer) = newer else { return Ok(false) };
        if write {
            newer.write(&self.own, &self.vault_key)?;
            *description = newer;
        }
        Ok(true)
    }

    /// What is kept with a directory that is given a master key: the key's id, authenticated.
    pub fn assignment(&self, key: &MasterKeyId) -> Vec<u8> {
        [key.as_bytes().as_slice(), &self.keys().assignment.mac(key.as_bytes())].concat()
    }

    /// The key that [`Vault::assignment`] was made for; `None` when it was not made here.
    pub fn assigned(&self, kept: &[u8]) -> Option<MasterKeyId> {
        let (id, mac) = kept.split_first_chunk::<16>()?;
        self.keys().assignment.verify(id, mac.try_into().ok()?).ok()?;
        Some(MasterKeyId::from_bytes(*id))
    }

    fn keys(&self) -> VaultKeys {
        VaultKeys::derive(&self.vault_key, self.context.volume().as_bytes())
    }

    /// What all its files share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// How its names are stored.
    pub fn names(&self) -> Names {
        Names::new(self.description.lock().names)
    }

    /// Its description.
    pub fn description(&self) -> Description {
        self.description.lock().clone()
    }

    /// What its filesystem lacks; nothing where it is only read.
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }

    /// How it was opened.
    pub fn access(&self) -> Access {
        self.access
    }
}

impl AsFd for Vault {
    /// The vault's directory.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

fn outstanding(files: u64, reason: Option<&str>) -> String {
    let (files, their) = match files {
        1 => ("1 file".to_owned(), "its"),
        files => (format!("{files} files"), "their"),
    };
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!(
        "{files} could not be completed{reason} (`atrest verify` names what {their} mount left)"
    )
}

fn create_in(dir: &Path, ring: &KeyRing, names: NameMode) -> Result<(), VaultError> {
    if std::fs::read_dir(dir).map_err(VaultError::Unreachable)?.next().is_some() {
        return Err(VaultError::NotEmpty);
    }
    let root = open_dir(dir)?;
    let own = OwnFiles::create(&root)?;
    let written = write_own_files(&own, ring, names);
    if written.is_err() {
        // Half a vault is none; what stopped it is told by `written`.
        let _ = std::fs::remove_dir_all(dir.join(OWN_DIR));
    }
    written
}

fn write_own_files(own: &OwnFiles, ring: &KeyRing, names: NameMode) -> Result<(), VaultError> {
    let (description, vault_key) = Description::create(ring, names)?;
    let state_key = VaultKeys::derive(&vault_key, description.vault.as_bytes()).state;
    probe(own)?;
    write_lock(&own.open_lock(LOCK)?, String::new())?;
    state::write(own, &state_key, &EpochRecord::default())?;
    description.write(own, &vault_key)
}

fn open_dir(dir: &Path) -> Result<OwnedFd, VaultError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|errno| VaultError::Unreachable(errno.into()))
}

pub(super) fn open_own_files(dir: &Path) -> Result<OwnFiles, VaultError> {
    own_files(&open_dir(dir)?)
}

fn own_files(root: &OwnedFd) -> Result<OwnFiles, VaultError> {
    OwnFiles::open(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => VaultError::NotAVault,
        _ => VaultError::Io(error),
    })
}

fn lock(own: &OwnFiles) -> Result<File, VaultError> {
    let mut file = own.open_lock(LOCK)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid)?;
            Err(VaultError::Locked(pid.lines().next().and_then(|pid| pid.parse().ok())))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Leaves this process's id in the lock file, for who finds it locked. Where there is no room for it
/// this process has no name.
fn note_holder(lock: &File) -> Result<(), VaultError> {
    write_lock(lock, format!("{}\n", std::process::id())).or_else(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(()),
        _ => Err(error.into()),
    })
}

/// Lines in the lock file, filled up with empty ones.
fn write_lock(lock: &File, lines: String) -> io::Result<()> {
    let mut bytes = lines.into_bytes();
    bytes.resize(bytes.len().max(LOCK_LEN), b'\n');
    lock.write_all_at(&bytes, 0)?;
    lock.set_len(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_is_known_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::create(VolumeId::random());
        Vault::create(dir.path(), &ring, NameMode::Plain).unwrap();
        let mut vault = Vault::open(dir.path(), ring, Access::ReadWrite).unwrap();
        // syncfs(2) fails for a descriptor of this kind.
        let path = rustix::fs::open(dir.path(), OFlags::PATH, Mode::empty()).unwrap();
        let root = std::mem::replace(&mut vault.root, path);
        vault.sync().unwrap_err();
        vault.root = root;
        vault.close(false, 0, None).unwrap_err();
    }
}
