//! A vault: its directory, its lock, its description and its record of mounts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::access::Access;
use super::description::{Description, NameMode, open_dir, open_own_files, own_files};
use super::findings::Claim;
use super::freshness::{Evidence, Freshness, Watch};
use super::marks::Marks;
use super::own_files::{METADATA_DIR, OwnFiles};
use super::probe::{Lack, probe};
use super::staging::Staging;
use super::watched::{Watched, trail_mark};
use super::{
    CheckpointFile, Context, EpochRecord, Holder, Names, RewrapTarget, RootAttrs, VaultError, lock,
    state,
};
use crate::crypto::{Secret, VaultKeys};
use crate::format::{Epoch, FileId, HEADER_LEN, Header, MasterKeyId};
use crate::keys::KeyRing;
use crate::sys::sync_name;

const CHANGE_TIMES: &str = "ctimes";
const MAX_CHANGE_TIMES_LEN: u64 = 32 * 1024 * 1024;

/// An open vault. One process has it at a time; see [`Vault::close`].
#[derive(Debug)]
pub struct Vault {
    root: OwnedFd,
    pub(super) own: OwnFiles,
    staging: Staging,
    lock: File,
    pub(super) access: Access,
    lacks: Vec<Lack>,
    description: Mutex<Description>,
    vault_key: Secret,
    pub(super) context: Arc<Context>,
    pub(super) root_attrs: Mutex<RootAttrs>,
    /// Before the key ring and `root_attrs`: none of the two is held while it is taken.
    pub(super) watched: Mutex<Watched>,
    pub(super) freshness: Option<Freshness>,
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
            // Removes an empty directory only; `created` has the error for the caller.
            let _ = std::fs::remove_dir(dir);
        }
        created
    }

    /// A private directory, and a free name in it, for a file that is moved to its own name once it is
    /// complete.
    ///
    /// # Errors
    /// Those of the backing filesystem.
    pub fn staging(&self) -> io::Result<(BorrowedFd<'_>, String)> {
        self.staging.free_name(&self.own)
    }

    /// Reads a vault's description, which needs no key and is not authenticated.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault of this format.
    pub fn describe(dir: &Path) -> Result<Description, VaultError> {
        Description::of(dir)
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

    /// The process that has the vault in `dir` open, if there is one.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault.
    pub fn holder(dir: &Path) -> Result<Option<Holder>, VaultError> {
        match lock::take(&open_own_files(dir)?) {
            Ok(_) => Ok(None),
            Err(VaultError::Locked(pid)) => Ok(Some(Holder { pid })),
            Err(error) => Err(error),
        }
    }

    /// The metadata directory of the vault in `dir`, to be locked by flock(2): a user who can't mount
    /// the vault can't open it either.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault.
    pub fn metadata_directory(dir: &Path) -> Result<OwnedFd, VaultError> {
        open_own_files(dir).map(Into::into)
    }

    /// Opens the vault in `dir` with its keys, whatever its age.
    ///
    /// # Errors
    /// [`VaultError`]: nothing is changed then.
    pub fn open(dir: &Path, ring: KeyRing, access: Access) -> Result<Self, VaultError> {
        Self::open_with(dir, ring, access, None)
    }

    /// [`Vault::open`] of one that is no older than the evidence says, which learns of it.
    ///
    /// # Errors
    /// As [`Vault::open`]; [`VaultError::SetBack`], [`VaultError::IsCopy`].
    pub fn open_fresh(
        dir: &Path,
        ring: KeyRing,
        access: Access,
        evidence: &Evidence,
    ) -> Result<Self, VaultError> {
        Self::open_with(dir, ring, access, Some(evidence))
    }

    fn open_with(
        dir: &Path,
        ring: KeyRing,
        access: Access,
        evidence: Option<&Evidence>,
    ) -> Result<Self, VaultError> {
        let root = open_dir(dir)?;
        let own = own_files(&root)?;
        let (description, mac) = Description::read(&own)?;
        let vault_key = description.unlock(&mac, &ring)?;
        let lock = lock::take(&own)?;
        let keys = VaultKeys::derive(&vault_key, description.vault.as_bytes());
        let (record, mut marks) = match state::read(&own, &keys.state) {
            // Whether there is a way on is for the evidence to say.
            Err(VaultError::Damaged(_)) if evidence.is_some() => (None, Marks::default()),
            read => read.map(|(record, marks)| (Some(record), marks))?,
        };
        let own_attrs = RootAttrs::of(&rustix::fs::fstat(&root)?);
        let kept_attrs = RootAttrs::read(&own, &keys.root);
        // A file that a crash left unreadable, or that fails to be read, loses nothing: the mark of the
        // last mount has the same.
        let shown_attrs = kept_attrs.or(marks.root).unwrap_or(own_attrs);
        let root_attrs = shown_attrs.shown(own_attrs);
        let (mut watch, mut freshness, mut known_to_trail) = (None, None, Epoch(0));
        if let Some(evidence) = evidence {
            let trail = trail_mark(&CheckpointFile::over(&own, access)?, &ring);
            let claim = Claim {
                epochs: record.as_ref(),
                marks: &marks,
                trail: trail.as_ref().map(|(mark, epoch)| (mark, *epoch)),
                root: kept_attrs,
            };
            let written = access == Access::ReadWrite;
            let vault = (description.vault, keys.freshness);
            let (found, seen) = Watch::begin((dir, &root), vault, evidence, claim, written)?;
            known_to_trail = trail.as_ref().map_or(Epoch(0), |(_, epoch)| *epoch);
            if let Freshness::Accepted(_) = &seen {
                marks.trail = trail.map(|(mark, _)| mark);
            }
            marks.key_file = evidence.key_file.clone();
            (watch, freshness) = (found, Some(seen));
        }
        let newest = watch.as_ref().map_or(Epoch(0), Watch::newest).max(known_to_trail);
        let record = record.unwrap_or_else(|| EpochRecord::in_place_of_lost(newest));
        let mut watched = Watched { watch, marks, failing: None, in_force: 0, ended: false };
        let mut lacks = Vec::new();
        let record = match access {
            Access::ReadOnly => {
                watched.note(&record);
                record.observe()
            }
            Access::ReadWrite => {
                lacks = probe(&own)?;
                if record.open {
                    // What a mount that died left in the page cache is seen as if it were durable.
                    rustix::fs::syncfs(&root)?;
                }
                let begun = record.begin_after(newest);
                watched.note_told();
                if kept_attrs.is_none() {
                    shown_attrs.write(&own, &keys.root)?;
                }
                watched.marks.root = Some(shown_attrs);
                state::write(&own, &keys.state, &begun, &watched.marks)?;
                lock::note_holder(&lock)?;
                begun
            }
        };
        let context = Arc::new(Context::new(ring, record));
        Ok(Self {
            root,
            own,
            staging: Staging::default(),
            lock,
            access,
            lacks,
            description: Mutex::new(description),
            vault_key,
            context,
            root_attrs: Mutex::new(root_attrs),
            watched: Mutex::new(watched),
            freshness,
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
        let ended = ended.and_then(|()| self.note_clean_end());
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

    /// Writes to the lock file why the mount did not end cleanly, for [`Vault::last_end`], or that it
    /// did where `message` is empty. It is for the user's information: a failed write is ignored.
    fn note_end(&self, message: &str) {
        let line = match message {
            "" => String::new(),
            message => format!("{}\n{message}\n", std::process::id()),
        };
        let _ = lock::write(&self.lock, line);
    }

    /// Why the last writable mount of the vault in `dir`, by the daemon `pid`, did not end cleanly:
    /// empty where the daemon died. `None` where it did, or where that is not known any more.
    pub fn last_end(dir: &Path, pid: Option<u32>) -> Option<String> {
        let noted = open_own_files(dir).and_then(|own| Ok(own.read(lock::FILE)?));
        let noted = String::from_utf8_lossy(&noted.ok()?).into_owned();
        let (by, message) = noted.split_once('\n')?;
        (by.parse().ok() == Some(pid?)).then(|| message.trim_end().to_owned())
    }

    /// The change times that the last mount stored; empty where it stored none.
    pub fn change_times(&self) -> Vec<u8> {
        self.own.read_up_to(CHANGE_TIMES, MAX_CHANGE_TIMES_LEN).unwrap_or_default()
    }

    /// Stores change times for the next mount.
    ///
    /// # Errors
    /// Those of replacing a file below `.atrest`.
    pub fn keep_change_times(&self, bytes: &[u8]) -> io::Result<()> {
        match self.access {
            Access::ReadOnly => Ok(()),
            Access::ReadWrite => self.own.replace_loosely(CHANGE_TIMES, bytes),
        }
    }

    /// Makes all that was written to the backing filesystem durable.
    ///
    /// # Errors
    /// [`VaultError::Io`]: any change since the last sync may be lost. The kernel reports a lost
    /// write once, and no later sync brings it back: each one of this mount fails from there on.
    pub fn sync(&self) -> Result<(), VaultError> {
        if let Some(errno) = self.failed_sync.get() {
            return Err((*errno).into());
        }
        rustix::fs::syncfs(&self.root)
            .map_err(|errno| (*self.failed_sync.get_or_init(|| errno)).into())
    }

    /// Brings the vault key to the newest version of the target, durably; returns `false` where it
    /// was there already.
    ///
    /// # Errors
    /// [`VaultError::Key`] for a key that can't be used; [`VaultError::Io`]. The description is then
    /// the old one.
    pub fn rewrap_vault_key(&self, to: RewrapTarget) -> Result<bool, VaultError> {
        let mut description = self.description.lock();
        let newer = description.rewrap(&self.context.ring(), &self.vault_key, to)?;
        let Some(newer) = newer else { return Ok(false) };
        newer.write(&self.own, &self.vault_key)?;
        *description = newer;
        Ok(true)
    }

    /// What [`Vault::rewrap_vault_key`] would do. Nothing is written.
    ///
    /// # Errors
    /// [`VaultError::Key`] for a key that can't be used.
    pub fn try_rewrap_vault_key(&self, to: RewrapTarget) -> Result<bool, VaultError> {
        let description = self.description.lock();
        Ok(description.rewrap(&self.context.ring(), &self.vault_key, to)?.is_some())
    }

    /// The attribute of a directory that is given a master key: the key's id and a MAC of it.
    pub fn assignment(&self, key: &MasterKeyId) -> Vec<u8> {
        [key.as_bytes().as_slice(), &self.keys().assignment.mac(key.as_bytes())].concat()
    }

    /// The key that [`Vault::assignment`] was made for; `None` when its MAC is not of this vault.
    pub fn assigned(&self, kept: &[u8]) -> Option<MasterKeyId> {
        let (id, mac) = kept.split_first_chunk::<16>()?;
        self.keys().assignment.verify(id, mac.try_into().ok()?).ok()?;
        Some(MasterKeyId::from_bytes(*id))
    }

    pub(super) fn keys(&self) -> VaultKeys {
        VaultKeys::derive(&self.vault_key, self.context.vault_id().as_bytes())
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

fn create_in(dir: &Path, ring: &KeyRing, names: NameMode) -> Result<(), VaultError> {
    if std::fs::read_dir(dir).map_err(VaultError::Unreachable)?.next().is_some() {
        return Err(VaultError::NotEmpty);
    }
    let root = open_dir(dir)?;
    let own = OwnFiles::create(&root)?;
    let shown = RootAttrs::of(&rustix::fs::fstat(&root)?);
    let written = write_own_files(&own, ring, names, shown)
        .and_then(|()| Ok(rustix::fs::fchmod(&root, Mode::RWXU)?))
        .and_then(|()| Ok(rustix::fs::fsync(&root)?))
        .and_then(|()| Ok(sync_name(dir)?));
    if written.is_err() {
        // Half a vault is none; `written` has the error for the caller.
        let _ = std::fs::remove_dir_all(dir.join(METADATA_DIR));
    }
    written
}

fn write_own_files(
    own: &OwnFiles,
    ring: &KeyRing,
    names: NameMode,
    shown: RootAttrs,
) -> Result<(), VaultError> {
    let (description, vault_key) = Description::create(ring, names)?;
    let keys = VaultKeys::derive(&vault_key, description.vault.as_bytes());
    probe(own)?;
    lock::write(&own.open_lock(lock::FILE)?, String::new())?;
    shown.write(own, &keys.root)?;
    state::write(own, &keys.state, &EpochRecord::default(), &Marks::new(shown))?;
    description.write(own, &vault_key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::VaultId;

    #[test]
    fn a_failed_sync_is_known_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let ring = KeyRing::create(VaultId::random());
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
