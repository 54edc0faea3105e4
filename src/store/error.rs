//! The errors of one sealed file.

use std::io;

use crate::format::{BadBlock, BadHeader, Epoch, KeyVersion, MasterKeyId, UnsealedLength, VaultId};
use crate::keys::KeyError;

/// Why a sealed file can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The backing filesystem failed.
    #[error("the backing filesystem says: {0}")]
    Io(#[from] io::Error),
    /// The content is not what was sealed, or was not sealed at all.
    #[error(transparent)]
    Integrity(#[from] IntegrityError),
    /// The master key that wraps the file's key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// An offset or length that no file can have.
    #[error("no file can be as long as that")]
    TooLong,
}

impl From<rustix::io::Errno> for FileError {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// How a file differs from what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IntegrityError {
    /// The size fits no sealed file.
    #[error(transparent)]
    Length(#[from] UnsealedLength),
    /// The header is not one, or not of this data key.
    #[error(transparent)]
    Header(#[from] BadHeader),
    /// A block is not the one that was sealed there.
    #[error(transparent)]
    Block(#[from] BadBlock),
    /// The header was sealed for another vault.
    #[error("the file belongs to vault {0}")]
    OtherVault(VaultId),
    /// The wrapped data key does not open.
    #[error(
        "the file's wrapped key fails its authentication: the header was changed, or the key file is of an older or another backup"
    )]
    WrappedKey,
    /// The header names a key that the vault never had, or not in this copy of the key file.
    #[error(
        "the header names version {version} of master key {key}, which the key file does not have: the header was changed, or the key file is of an older backup"
    )]
    UnknownKey {
        /// The master key.
        key: MasterKeyId,
        /// Its version.
        version: KeyVersion,
    },
    /// The header names a mount that has not been yet.
    #[error("the header is of mount {}, which the vault has no record of", .0.0)]
    FutureEpoch(Epoch),
    /// Content below the committed length is gone.
    #[error("the file was cut: {len} bytes of {committed}")]
    Cut {
        /// Plaintext bytes there are.
        len: u64,
        /// Plaintext bytes the header commits to.
        committed: u64,
    },
    /// Content lies beyond the committed length.
    #[error("the file was extended: {len} bytes of {committed}")]
    Extended {
        /// Plaintext bytes there are.
        len: u64,
        /// Plaintext bytes the header commits to.
        committed: u64,
    },
    /// A block that holds content was zeroed.
    #[error("block {0} was zeroed")]
    Zeroed(u64),
    /// The backing file ends before its own size.
    #[error("the file became shorter while it was read")]
    Vanished,
}

impl From<BadBlock> for FileError {
    fn from(error: BadBlock) -> Self {
        Self::Integrity(error.into())
    }
}

impl From<BadHeader> for FileError {
    fn from(error: BadHeader) -> Self {
        Self::Integrity(error.into())
    }
}

impl From<UnsealedLength> for FileError {
    fn from(error: UnsealedLength) -> Self {
        Self::Integrity(error.into())
    }
}
