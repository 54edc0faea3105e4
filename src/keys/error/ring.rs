//! Errors of master keys and their versions.

use jiff::Timestamp;

use crate::format::{KeyVersion, MasterKeyId};

/// Why a master key cannot be found, used or changed.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// The key file has no master key of this name or id.
    #[error(
        "there is no master key `{0}` in this key file; `atrest key list` shows those there are"
    )]
    NoSuchKey(String),
    /// A file names a master key that the key file does not have.
    #[error("the key file has no master key with the id {0}; it may be of an older backup")]
    NoSuchKeyId(MasterKeyId),
    /// The master key never had this version, or not in this copy of the key file.
    #[error(
        "master key `{key}` has no version {version} in this key file, which may be of an older backup"
    )]
    NoSuchVersion {
        /// The master key's name.
        key: String,
        /// The version asked for.
        version: KeyVersion,
    },
    /// The version's material was removed for good.
    #[error("version {version} of master key `{key}` was retired, its material is gone")]
    VersionRetired {
        /// The master key's name.
        key: String,
        /// The version asked for.
        version: KeyVersion,
    },
    /// The master key is disabled.
    #[error("master key `{0}` is disabled; `atrest key enable` gives its use back")]
    Disabled(String),
    /// The master key is pending deletion.
    #[error(
        "master key `{key}` is pending deletion on {until}; `atrest key cancel-deletion` keeps it"
    )]
    PendingDeletion {
        /// The master key's name.
        key: String,
        /// When its material is destroyed.
        until: Timestamp,
    },
    /// The master key's material was destroyed.
    #[error("master key `{0}` was destroyed, what it wrapped cannot be opened any more")]
    Destroyed(String),
    /// The wrapped key does not open under the version that it names.
    #[error(
        "a data key does not open under version {version} of master key `{key}`: its file or the key file was changed, or the key file is of an older or another backup"
    )]
    Forged {
        /// The master key's name.
        key: String,
        /// The version that should have opened it.
        version: KeyVersion,
    },
    /// A master key of this name exists.
    #[error("there is a master key `{0}` already; choose another name")]
    NameTaken(String),
    /// Not a name for a master key.
    #[error(
        "`{0}` cannot name a master key: use 1 to 64 letters, digits, `.`, `_` and `-`, the first a letter or digit"
    )]
    BadName(String),
    /// The current version cannot be retired, since it wraps new files.
    #[error("version {version} of master key `{key}` is the current one; rotate and rewrap first")]
    CurrentVersion {
        /// The master key's name.
        key: String,
        /// The version asked for.
        version: KeyVersion,
    },
    /// The waiting period, in days, is out of range.
    #[error("a master key waits 7 to 30 days for its deletion, not {0}")]
    BadWaitingPeriod(u32),
    /// There is no deletion to cancel.
    #[error("master key `{0}` is not pending deletion, there is nothing to cancel")]
    NotPendingDeletion(String),
    /// No deletion is scheduled.
    #[error(
        "the deletion of master key `{0}` is not scheduled; run `atrest key schedule-deletion` first"
    )]
    NotScheduled(String),
    /// Its waiting period is not over.
    #[error("master key `{key}` can be destroyed from {until} on")]
    TooEarly {
        /// The master key's name.
        key: String,
        /// When it is over.
        until: Timestamp,
    },
}

impl RingError {
    /// The name of the master key, where a key of the ring was used and is at fault.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Disabled(key)
            | Self::PendingDeletion { key, .. }
            | Self::Destroyed(key)
            | Self::NoSuchVersion { key, .. }
            | Self::VersionRetired { key, .. }
            | Self::Forged { key, .. } => Some(key),
            Self::NoSuchKey(_)
            | Self::NoSuchKeyId(_)
            | Self::NameTaken(_)
            | Self::BadName(_)
            | Self::CurrentVersion { .. }
            | Self::BadWaitingPeriod(_)
            | Self::NotPendingDeletion(_)
            | Self::NotScheduled(_)
            | Self::TooEarly { .. } => None,
        }
    }

    /// Whether the key's state or the arguments forbid the operation. False where a file's header and
    /// the key file do not belong together.
    pub(super) fn is_refusal(&self) -> bool {
        !matches!(self, Self::NoSuchKeyId(_) | Self::Forged { .. })
    }
}
