//! What all files of an open vault share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use parking_lot::{RwLock, RwLockReadGuard};

use super::{EpochRecord, FileError, IntegrityError, KeyChoice, RewrapTarget};
use crate::crypto::{DataKey, FileKeys};
use crate::format::{FileId, HEADER_LEN, Header, Holes, KeyVersion, MasterKeyId, VaultId};
use crate::keys::policy::{ActionSet, Summary};
use crate::keys::{KeyError, KeyRing, RingError};

/// The version of a master key that wraps a data key.
pub type WrappedBy = (MasterKeyId, KeyVersion);

/// Which life of which file it is, and what wraps its key, as a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The file.
    pub file: FileId,
    /// What wraps its data key.
    pub by: WrappedBy,
}

/// The ring's policies in short, for checks that need no grant.
#[derive(Debug)]
struct Policies {
    everybody: AtomicU16,
    owner: AtomicU16,
    by_path: AtomicBool,
}

impl Policies {
    fn new(summary: &Summary) -> Self {
        Self {
            everybody: AtomicU16::new(summary.everybody.bits()),
            owner: AtomicU16::new(summary.owner.bits()),
            by_path: AtomicBool::new(summary.by_path),
        }
    }

    fn replace(&self, summary: &Summary) {
        self.everybody.store(summary.everybody.bits(), Ordering::Release);
        self.owner.store(summary.owner.bits(), Ordering::Release);
        self.by_path.store(summary.by_path, Ordering::Release);
    }
}

/// The keys, the mounts and the counters of an open vault.
#[derive(Debug)]
pub struct Context {
    vault_id: VaultId,
    ring: RwLock<KeyRing>,
    /// Counts the rings there were, so that open files notice another one without a lock.
    ring_changes: AtomicU64,
    /// Whether every key of the ring may be used.
    all_enabled: AtomicBool,
    policies: Policies,
    epochs: EpochRecord,
    /// See [`Context::note_recovered`].
    recovered: AtomicBool,
    /// See [`Context::note_served`].
    served: OnceLock<bool>,
    files_sealed: AtomicU64,
    bytes_sealed: AtomicU64,
    /// Counts the changes of files' identities, so that those that were read before can be cached.
    identity_changes: AtomicU64,
}

impl Context {
    /// For a vault whose keys are `ring` and whose mounts so far are `epochs`.
    pub fn new(ring: KeyRing, epochs: EpochRecord) -> Self {
        Self {
            vault_id: ring.vault_id(),
            ring_changes: AtomicU64::new(0),
            all_enabled: AtomicBool::new(ring.all_enabled()),
            policies: Policies::new(&ring.summary()),
            ring: RwLock::new(ring),
            epochs,
            recovered: AtomicBool::new(false),
            served: OnceLock::new(),
            files_sealed: AtomicU64::new(0),
            bytes_sealed: AtomicU64::new(0),
            identity_changes: AtomicU64::new(0),
        }
    }

    /// The vault's id.
    pub fn vault_id(&self) -> VaultId {
        self.vault_id
    }

    /// The record of mounts, this one included.
    pub fn epochs(&self) -> &EpochRecord {
        &self.epochs
    }

    /// The record of mounts, with whether this one serves requests.
    pub fn epochs_now(&self) -> EpochRecord {
        match self.served.get() {
            Some(has_line) => self.epochs.serve(*has_line),
            None => self.epochs.clone(),
        }
    }

    /// This mount serves requests; `has_line` tells whether the trail must have a line of it.
    pub fn note_served(&self, has_line: bool) {
        let _ = self.served.set(has_line);
    }

    /// The record of mounts when this one has ended cleanly.
    pub fn epochs_at_end(&self) -> EpochRecord {
        let ended = self.epochs_now().end();
        if self.recovered.load(Ordering::Acquire) { ended.recovered() } else { ended }
    }

    /// All files were recovered: after a clean end no crash excuses anything.
    pub fn note_recovered(&self) {
        self.recovered.store(true, Ordering::Release);
    }

    /// The keys, locked for reading. A change of the keys waits for the guard: hold it briefly.
    pub fn ring(&self) -> RwLockReadGuard<'_, KeyRing> {
        self.ring.read()
    }

    /// Other keys, or the same in other states, from now on: for open files too.
    pub fn replace_ring(&self, ring: KeyRing) {
        let mut current = self.ring.write();
        self.all_enabled.store(ring.all_enabled(), Ordering::Release);
        self.policies.replace(&ring.summary());
        *current = ring;
        self.ring_changes.fetch_add(1, Ordering::Release);
    }

    /// Whether every master key may be used.
    pub fn all_enabled(&self) -> bool {
        self.all_enabled.load(Ordering::Acquire)
    }

    /// Whether every key lets everybody do all of `actions`, anywhere and at any time.
    pub fn lets_everybody(&self, actions: ActionSet) -> bool {
        actions.bits() & !self.policies.everybody.load(Ordering::Acquire) == 0
    }

    /// Whether the policy of every key lets the vault's owner do all of `actions`.
    pub fn lets_owner(&self, actions: ActionSet) -> bool {
        actions.bits() & !self.policies.owner.load(Ordering::Acquire) == 0
    }

    /// Whether a grant of some key counts at and below a path alone.
    pub fn grants_by_path(&self) -> bool {
        self.policies.by_path.load(Ordering::Acquire)
    }

    /// How often the keys were replaced.
    pub fn ring_changes(&self) -> u64 {
        self.ring_changes.load(Ordering::Acquire)
    }

    /// Whether new files can be given keys under a master key.
    ///
    /// # Errors
    /// [`KeyError`] when not.
    pub fn require_enabled(&self, key: KeyChoice) -> Result<(), KeyError> {
        if self.all_enabled() && key == KeyChoice::Default {
            return Ok(());
        }
        let ring = self.ring.read();
        ring.require_enabled(&key.id(&ring))
    }

    /// Files that were given a data key since the vault was opened.
    pub fn files_sealed(&self) -> u64 {
        self.files_sealed.load(Ordering::Relaxed)
    }

    /// Plaintext bytes sealed since the vault was opened.
    pub fn bytes_sealed(&self) -> u64 {
        self.bytes_sealed.load(Ordering::Relaxed)
    }

    /// Counts the files that got another [`Identity`]. A thread that has seen a file's content sees
    /// here all changes that led to it.
    pub fn identity_changes(&self) -> u64 {
        self.identity_changes.load(Ordering::Acquire)
    }

    /// A file has another identity. To be called before its new length is published.
    pub(super) fn note_identity_change(&self) {
        self.identity_changes.fetch_add(1, Ordering::Release);
    }

    pub(super) fn count_sealed(&self, bytes: u64) {
        self.bytes_sealed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A new data key for a new life of a file, wrapped by the chosen master key.
    pub(super) fn new_file(
        &self,
        file_id: FileId,
        choice: KeyChoice,
    ) -> Result<(Header, FileKeys), FileError> {
        let key = DataKey::random();
        let ring = self.ring.read();
        let (master_key, version, wrapped) =
            ring.wrap_by_id(&choice.id(&ring), file_id.as_bytes(), &key)?;
        let header = Header {
            file_id,
            vault_id: self.vault_id,
            master_key,
            version,
            wrapped,
            holes: Holes::default(),
            committed_len: 0,
            epoch: self.epochs.current,
        };
        self.files_sealed.fetch_add(1, Ordering::Relaxed);
        self.note_identity_change();
        Ok((header, FileKeys::derive(&key, file_id.as_bytes())))
    }

    /// Opens a header: unwraps its data key and authenticates it.
    pub(super) fn open_header(
        &self,
        bytes: &[u8; HEADER_LEN],
    ) -> Result<(Header, FileKeys), FileError> {
        let header = self.parse_header(bytes)?;
        let key = self.unwrap(&header)?;
        self.check_header(header, bytes, &key)
    }

    /// What a header says, authenticated, also where its master key is out of use.
    pub(super) fn authenticate(&self, bytes: &[u8; HEADER_LEN]) -> Result<Header, FileError> {
        let header = self.parse_header(bytes)?;
        let (by, version) = (&header.master_key, header.version);
        let subject = header.file_id.as_bytes();
        let key = self.ring.read().unwrap_in_any_state(by, version, subject, &header.wrapped);
        let key = authentic(key, &header)?;
        Ok(self.check_header(header, bytes, &key)?.0)
    }

    fn check_header(
        &self,
        header: Header,
        bytes: &[u8; HEADER_LEN],
        key: &DataKey,
    ) -> Result<(Header, FileKeys), FileError> {
        let keys = FileKeys::derive(key, header.file_id.as_bytes());
        Header::authenticate(bytes, &keys.header)?;
        if header.epoch > self.epochs.current {
            return Err(IntegrityError::FutureEpoch(header.epoch).into());
        }
        Ok((header, keys))
    }

    /// What a header says of itself, which is not authenticated.
    pub(super) fn parse_header(&self, bytes: &[u8; HEADER_LEN]) -> Result<Header, FileError> {
        let header = Header::parse(bytes)?;
        if header.vault_id != self.vault_id {
            return Err(IntegrityError::OtherVault(header.vault_id).into());
        }
        Ok(header)
    }

    /// Whether `by` is the newest version of the target.
    pub(super) fn is_newest(&self, by: WrappedBy, to: RewrapTarget) -> Result<bool, FileError> {
        let (key, version) = by;
        let target = to.id(key);
        Ok(target == key && self.ring.read().key_by_id(&target)?.current() == version)
    }

    /// The header with its data key wrapped by the newest version of the target.
    pub(super) fn rewrap(&self, header: &Header, to: RewrapTarget) -> Result<Header, FileError> {
        let key = self.unwrap(header)?;
        let target = to.id(header.master_key);
        let (master_key, version, wrapped) =
            self.ring.read().wrap_by_id(&target, header.file_id.as_bytes(), &key)?;
        Ok(Header { master_key, version, wrapped, ..header.clone() })
    }

    fn unwrap(&self, header: &Header) -> Result<DataKey, FileError> {
        let subject = header.file_id.as_bytes();
        let ring = self.ring.read();
        let key = ring.unwrap(&header.master_key, header.version, subject, &header.wrapped);
        authentic(key, header)
    }
}

/// The key that a header wraps, or the header's fault.
fn authentic(key: Result<DataKey, KeyError>, header: &Header) -> Result<DataKey, FileError> {
    match key {
        Err(KeyError::Ring(RingError::Forged { .. })) => Err(IntegrityError::WrappedKey.into()),
        Err(KeyError::Ring(RingError::NoSuchKeyId(_) | RingError::NoSuchVersion { .. })) => {
            let (key, version) = (header.master_key, header.version);
            Err(IntegrityError::UnknownKey { key, version }.into())
        }
        key => Ok(key?),
    }
}
