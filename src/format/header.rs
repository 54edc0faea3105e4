//! The header: the first 256 bytes of a sealed file.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 6 | magic `atrest` |
//! | 6 | 2 | format version, 1 |
//! | 8 | 4 | flags, zero |
//! | 12 | 4 | key version |
//! | 16 | 16 | file id |
//! | 32 | 16 | vault id |
//! | 48 | 16 | master-key id |
//! | 64 | 60 | wrapped data key: nonce 12, sealed key 32, tag 16 |
//! | 124 | 4 | blocks of the hole extents that are not known to be holes, at most 2^32 - 1 |
//! | 128 | 8 | committed length |
//! | 136 | 8 | mount epoch |
//! | 144 | 8 | durable blocks |
//! | 152 | 72 | hole extents |
//! | 224 | 32 | HMAC-SHA256 of bytes 0–223 under the data key's header key |
//!
//! Integers are little-endian.

use super::extents::EXTENTS_LEN;
use super::{
    Epoch, FORMAT_VERSION, FileId, HEADER_LEN, HoleExtents, KeyVersion, MasterKeyId, VaultId,
};
use crate::crypto::{MacKey, WrappedKey};

const MAGIC: &[u8; 6] = b"atrest";
const FLAGS: usize = 8;
const VERSION: usize = 12;
const FILE_ID: usize = 16;
const VOLUME_ID: usize = 32;
const MASTER_KEY_ID: usize = 48;
const WRAPPED: usize = 64;
const UNCERTAIN: usize = 124;
const COMMITTED_LEN: usize = 128;
const EPOCH: usize = 136;
const DURABLE: usize = 144;
const EXTENTS: usize = 152;
const MAC: usize = HEADER_LEN - MacKey::LEN;

/// Which blocks of a file may be holes, and which a crash can have kept from the disk.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Holes {
    /// The blocks that may be holes.
    pub extents: HoleExtents,
    /// At most so many blocks of the extents may hold content. What is more than the field
    /// holds is written as its largest value.
    pub uncertain: u32,
    /// Blocks before this one that lie in no extent were durable when the header was written,
    /// and the mount that wrote it takes none away without saying so in a newer header.
    pub durable: u64,
}

/// A sealed file's header, parsed; not authenticated before [`Header::authenticate`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// This life of the file.
    pub file_id: FileId,
    /// The vault it belongs to.
    pub vault_id: VaultId,
    /// The master key that wraps its data key.
    pub master_key: MasterKeyId,
    /// The version of that master key.
    pub version: KeyVersion,
    /// The data key, sealed.
    pub wrapped: WrappedKey,
    /// Which blocks may be holes.
    pub holes: Holes,
    /// The plaintext length when the header was written, in bytes.
    pub committed_len: u64,
    /// The mount that wrote the header.
    pub epoch: Epoch,
}

/// Why bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// The header's bytes are all zero: it never reached the disk, or was wiped.
    #[error("the header is blank")]
    Blank,
    /// No magic: the file was not sealed.
    #[error("the file was not sealed by atrest")]
    NotSealed,
    /// A format that this program does not know.
    #[error("the file is of format version {0}, this program reads version {FORMAT_VERSION}")]
    Version(u16),
    /// A field is not as this format writes it.
    #[error("the header is damaged")]
    Damaged,
}

impl Header {
    /// The bytes of the header, authenticated by `key`.
    pub fn to_bytes(&self, key: &MacKey) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..6].copy_from_slice(MAGIC);
        bytes[6..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[VERSION..][..4].copy_from_slice(&self.version.0.to_le_bytes());
        bytes[FILE_ID..][..16].copy_from_slice(self.file_id.as_bytes());
        bytes[VOLUME_ID..][..16].copy_from_slice(self.vault_id.as_bytes());
        bytes[MASTER_KEY_ID..][..16].copy_from_slice(self.master_key.as_bytes());
        bytes[WRAPPED..][..WrappedKey::LEN].copy_from_slice(&self.wrapped.to_bytes());
        bytes[UNCERTAIN..][..4].copy_from_slice(&self.holes.uncertain.to_le_bytes());
        bytes[COMMITTED_LEN..][..8].copy_from_slice(&self.committed_len.to_le_bytes());
        bytes[EPOCH..][..8].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[DURABLE..][..8].copy_from_slice(&self.holes.durable.to_le_bytes());
        bytes[EXTENTS..MAC].copy_from_slice(&self.holes.extents.to_bytes());
        let mac = key.mac(&bytes[..MAC]);
        bytes[MAC..].copy_from_slice(&mac);
        bytes
    }

    /// Reads the fields, which are not authentic before [`Header::authenticate`].
    ///
    /// # Errors
    /// [`BadHeader`] when the bytes are not a header of this format.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, BadHeader> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Err(BadHeader::Blank);
        }
        if &bytes[..6] != MAGIC {
            return Err(BadHeader::NotSealed);
        }
        let format = u16::from_le_bytes(field(bytes, 6));
        if format != FORMAT_VERSION {
            return Err(BadHeader::Version(format));
        }
        if bytes[FLAGS..VERSION].iter().any(|&byte| byte != 0) {
            return Err(BadHeader::Damaged);
        }
        let extents = HoleExtents::parse(&field::<EXTENTS_LEN>(bytes, EXTENTS));
        let holes = Holes {
            extents: extents.ok_or(BadHeader::Damaged)?,
            uncertain: u32::from_le_bytes(field(bytes, UNCERTAIN)),
            durable: u64::from_le_bytes(field(bytes, DURABLE)),
        };
        Ok(Self {
            file_id: FileId::from_bytes(field(bytes, FILE_ID)),
            vault_id: VaultId::from_bytes(field(bytes, VOLUME_ID)),
            master_key: MasterKeyId::from_bytes(field(bytes, MASTER_KEY_ID)),
            version: KeyVersion(u32::from_le_bytes(field(bytes, VERSION))),
            wrapped: WrappedKey::from_bytes(&field(bytes, WRAPPED)),
            holes,
            committed_len: u64::from_le_bytes(field(bytes, COMMITTED_LEN)),
            epoch: Epoch(u64::from_le_bytes(field(bytes, EPOCH))),
        })
    }

    /// The committed length that the bytes say, unauthenticated; 0 where there is no header.
    pub fn claimed_len(bytes: &[u8; HEADER_LEN]) -> u64 {
        u64::from_le_bytes(field(bytes, COMMITTED_LEN))
    }

    /// Checks the MAC over `bytes`, which commits to the data key that `key` comes from.
    ///
    /// # Errors
    /// [`BadHeader::Damaged`] when the header was not written under that data key.
    pub fn authenticate(bytes: &[u8; HEADER_LEN], key: &MacKey) -> Result<(), BadHeader> {
        key.verify(&bytes[..MAC], &field(bytes, MAC)).map_err(|_| BadHeader::Damaged)
    }

    /// What the wrap of this file's data key is bound to.
    pub fn wrap_context(&self) -> [u8; 52] {
        wrap_context(&self.vault_id, self.file_id.as_bytes(), &self.master_key, self.version)
    }
}

/// The associated data of a wrap: vault id, file id (or the vault id again, for the vault key),
/// master-key id, version.
pub fn wrap_context(
    vault_id: &VaultId,
    subject: &[u8; 16],
    master_key: &MasterKeyId,
    version: KeyVersion,
) -> [u8; 52] {
    let mut context = [0; 52];
    context[..16].copy_from_slice(vault_id.as_bytes());
    context[16..32].copy_from_slice(subject);
    context[32..48].copy_from_slice(master_key.as_bytes());
    context[48..].copy_from_slice(&version.0.to_le_bytes());
    context
}

fn field<const N: usize>(bytes: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&bytes[at..at + N]);
    field
}
