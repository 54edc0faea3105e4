//! What all files of an open vault share.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use super::{EpochRecord, FileError, IntegrityError};
use crate::crypto::{DataKey, FileKeys};
use crate::format::{FileId, HEADER_LEN, Header, HeaderFlags, KeyVersion, MasterKeyId, VolumeId};
use crate::keys::{DEFAULT_KEY, KeyError, KeyRing};

/// The version of a master key that wraps a data key.
pub type WrappedBy = (MasterKeyId, KeyVersion);

/// The keys, the mounts and the counters of an open vault.
#[derive(Debug)]
pub struct Context {
    volume: VolumeId,
    ring: RwLock<KeyRing>,
    epochs: EpochRecord,
    files_sealed: AtomicU64,
    bytes_sealed: AtomicU64,
}

impl Context {
    /// For a vault whose keys are `ring` and whose mounts so far are `epochs`.
    pub fn new(ring: KeyRing, epochs: EpochRecord) -> Self {
        Self {
            volume: ring.volume_id(),
            ring: RwLock::new(ring),
            epochs,
            files_sealed: AtomicU64::new(0),
            bytes_sealed: AtomicU64::new(0),
        }
    }

    /// The vault's id.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// The record of mounts, this one included.
    pub fn epochs(&self) -> &EpochRecord {
        &self.epochs
    }

    /// The keys. A reader holds up whoever wants to change them, so be brief.
    pub fn ring(&self) -> &RwLock<KeyRing> {
        &self.ring
    }

    /// Files that were given a data key since the vault was opened.
    pub fn files_sealed(&self) -> u64 {
        self.files_sealed.load(Ordering::Relaxed)
    }

    /// Plaintext bytes sealed since the vault was opened.
    pub fn bytes_sealed(&self) -> u64 {
        self.bytes_sealed.load(Ordering::Relaxed)
    }

    pub(super) fn count_sealed(&self, bytes: u64) {
        self.bytes_sealed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A new data key for a new life of a file, wrapped by the default master key.
    pub(super) fn new_file(&self) -> Result<(Header, FileKeys), FileError> {
        let (file_id, key) = (FileId::random(), DataKey::random());
        let ring = self.ring.read();
        let (master_key, version, wrapped) = ring.wrap(DEFAULT_KEY, file_id.as_bytes(), &key)?;
        let header = Header {
            file_id,
            volume_id: self.volume,
            master_key,
            version,
            wrapped,
            flags: HeaderFlags::default(),
            committed_len: 0,
            epoch: self.epochs.current,
        };
        self.files_sealed.fetch_add(1, Ordering::Relaxed);
        Ok((header, FileKeys::derive(&key, file_id.as_bytes())))
    }

    /// Opens a header: unwraps its data key and authenticates it.
    pub(super) fn open_header(
        &self,
        bytes: &[u8; HEADER_LEN],
    ) -> Result<(Header, FileKeys), FileError> {
        let header = self.parse_header(bytes)?;
        let key = self.unwrap(&header)?;
        let keys = FileKeys::derive(&key, header.file_id.as_bytes());
        Header::authenticate(bytes, &keys.header)?;
        if header.epoch > self.epochs.current {
            return Err(IntegrityError::FutureEpoch(header.epoch).into());
        }
        Ok((header, keys))
    }

    /// What a header says of itself, which is not authenticated.
    pub(super) fn parse_header(&self, bytes: &[u8; HEADER_LEN]) -> Result<Header, FileError> {
        let header = Header::parse(bytes)?;
        if header.volume_id != self.volume {
            return Err(IntegrityError::OtherVault(header.volume_id).into());
        }
        Ok(header)
    }

    /// Whether `by` is the newest version of the master key `to`, or where none is named of the
    /// master key that it is of.
    pub(super) fn is_newest(
        &self,
        by: WrappedBy,
        to: Option<MasterKeyId>,
    ) -> Result<bool, FileError> {
        let (key, version) = by;
        let target = to.unwrap_or(key);
        Ok(target == key && self.ring.read().key_by_id(&target)?.current() == version)
    }

    /// The header with its data key wrapped by the newest version of the master key `to`, or of
    /// its own where none is named.
    pub(super) fn rewrap(
        &self,
        header: &Header,
        to: Option<MasterKeyId>,
    ) -> Result<Header, FileError> {
        let key = self.unwrap(header)?;
        let target = to.unwrap_or(header.master_key);
        let (master_key, version, wrapped) =
            self.ring.read().wrap_by_id(&target, header.file_id.as_bytes(), &key)?;
        Ok(Header { master_key, version, wrapped, ..header.clone() })
    }

    fn unwrap(&self, header: &Header) -> Result<DataKey, FileError> {
        let subject = header.file_id.as_bytes();
        let ring = self.ring.read();
        match ring.unwrap(&header.master_key, header.version, subject, &header.wrapped) {
            Err(KeyError::Forged { .. }) => Err(IntegrityError::WrappedKey.into()),
            Err(KeyError::NoSuchKeyId(_) | KeyError::NoSuchVersion { .. }) => {
                let (key, version) = (header.master_key, header.version);
                Err(IntegrityError::UnknownKey { key, version }.into())
            }
            key => Ok(key?),
        }
    }
}
