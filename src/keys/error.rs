//! What can go wrong with a key, each in one sentence that says what to do.

use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::policy::Action;
use crate::format::{KeyVersion, MasterKeyId, VolumeId};
use crate::sys::Show;

/// Why a key cannot be used, changed, read or stored.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// No master key of this name or id is in the key file.
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
    /// The master key waits to be deleted.
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
    /// The current version wraps new files, so it stays.
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
    /// A grant that ends before it begins.
    #[error("{0} is past: a grant ends in the future, or never")]
    PastGrant(Timestamp),
    /// A grant that could not mean anything.
    #[error(
        "a grant names at least one action, and no path but a plain one of at most 4096 bytes in the vault"
    )]
    BadGrant,
    /// A policy that leaves the key to nobody.
    #[error(
        "that would leave nobody who may {action} with the master key `{key}`; `--yes --yes` does it all the same"
    )]
    LocksOut {
        /// The master key's name.
        key: String,
        /// What nobody could do.
        action: Action,
    },
    /// Nothing of what was to be taken back was ever granted.
    #[error(
        "there is no such grant, so there is nothing to take back; `atrest policy show` shows those there are"
    )]
    NoSuchGrant,
    /// There is no deletion to cancel.
    #[error("master key `{0}` is not pending deletion, there is nothing to cancel")]
    NotPendingDeletion(String),
    /// There is no deletion whose time could be up.
    #[error(
        "the deletion of master key `{0}` is not scheduled; run `atrest key schedule-deletion` first"
    )]
    NotScheduled(String),
    /// It can't be destroyed yet.
    #[error("master key `{key}` can be destroyed from {until} on")]
    TooEarly {
        /// The master key's name.
        key: String,
        /// From when on.
        until: Timestamp,
    },
    /// There is no more room for what was to be added.
    #[error("the key file is full: it takes at most {limit} {what}")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },

    /// It opens without the passphrase that was given.
    #[error(
        "key file {} opens without a passphrase, though one was given: it may have been replaced; leave the passphrase out if it is the right one",
        .0.shown()
    )]
    Unprotected(PathBuf),
    /// It is older than one that this process has used, or has other keys.
    #[error(
        "key file {} was put back or replaced since this mount began: it is not used; put the newest one back",
        .0.shown()
    )]
    Replaced(PathBuf),
    /// There is no key file there.
    #[error(
        "there is no key file {}; name it with --key-file or ATREST_KEY_FILE, or restore it from a backup",
        .0.shown()
    )]
    Missing(PathBuf),
    /// A key file would be overwritten.
    #[error("{} exists and is not overwritten; move it away or choose another path", .0.shown())]
    Exists(PathBuf),
    /// A directory, a device, a pipe.
    #[error("{} is not a regular file, so it is not read as a key file", .0.shown())]
    NotRegular(PathBuf),
    /// Others than the owner may read or write it.
    #[error(
        "key file {} has mode {mode:04o} and is open to others; `chmod 600` it",
        .path.shown()
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others than the owner may read or write the passphrase.
    #[error(
        "passphrase file {} has mode {mode:04o} and is open to others; `chmod 600` it",
        .path.shown()
    )]
    PassphraseExposed {
        /// The passphrase file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to someone else.
    #[error(
        "key file {} belongs to uid {owner}, neither to you nor to root; `chown` it to its user",
        .path.shown()
    )]
    WrongOwner {
        /// The key file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// Not what this program wrote.
    #[error(
        "{} is not a key file, or is damaged; restore it from its previous copy or a backup",
        .0.shown()
    )]
    Damaged(PathBuf),
    /// Written by a newer program.
    #[error(
        "key file {} is of version {version}, this program reads version {}; update atrest",
        .path.shown(),
        crate::format::KEY_FILE_VERSION
    )]
    FromTheFuture {
        /// The key file.
        path: PathBuf,
        /// The version that it states.
        version: u64,
    },
    /// It holds the keys of another vault.
    #[error(
        "key file {} belongs to vault {found}, not to vault {wanted}; name the right one with --key-file",
        .path.shown()
    )]
    OtherVault {
        /// The key file.
        path: PathBuf,
        /// The vault that it belongs to.
        found: VolumeId,
        /// The vault at hand.
        wanted: VolumeId,
    },
    /// A backup of another vault's keys.
    #[error("the backup {} is of vault {found}, not of vault {wanted}", .path.shown())]
    BackupOfOther {
        /// The backup.
        path: PathBuf,
        /// The vault that it is of.
        found: VolumeId,
        /// The vault at hand.
        wanted: VolumeId,
    },
    /// It takes a passphrase, and none was given.
    #[error(
        "the key file is protected by a passphrase; give it with --passphrase-file or --passphrase-command, or run at a terminal"
    )]
    PassphraseNeeded,
    /// There is nobody to ask for a passphrase to be set.
    #[error(
        "there is no terminal to ask for the new passphrase: give it with --new-passphrase-file or --new-passphrase-command"
    )]
    NewPassphraseNeeded,
    /// The passphrase opens none of the protectors.
    #[error("the passphrase does not open key file {}; nothing was changed", .0.shown())]
    WrongPassphrase(PathBuf),
    /// The protector that it was opened through is there no longer.
    #[error(
        "the passphrase that key file {} was opened with has been removed from it; open it with a current one",
        .0.shown()
    )]
    ProtectorGone(PathBuf),
    /// An empty passphrase.
    #[error("the passphrase is empty; give one of at least one character")]
    EmptyPassphrase,
    /// A passphrase is one line of what it is read from.
    #[error("there is more than one line where the passphrase is read from; which one is it?")]
    PassphraseLines,
    /// What was typed twice was not the same.
    #[error("the two passphrases are not the same; nothing was changed")]
    PassphrasesDiffer,
    /// Longer than any passphrase.
    #[error("the passphrase is longer than 64 KiB; is it the right file?")]
    LongPassphrase,
    /// Without a protector nobody could open the key file.
    #[error("protector {0} is the last one and stays; add another before removing it")]
    LastProtector(u32),
    /// No protector has this number.
    #[error("the key file has no protector {0}; `atrest key protector list` shows those there are")]
    NoSuchProtector(u32),
    /// Costs out of range for Argon2id.
    #[error(
        "a passphrase costs 8 KiB a lane to 4 GiB of memory, 1 to 1000 passes and 1 to 64 lanes"
    )]
    BadCost,
    /// The file asks for more of Argon2id than its reader allows.
    #[error(
        "the key file's passphrase may take {limit} MiB of memory and the time for that, and its Argon2id asks for more: if that is its own, `--max-argon2-memory {needed}` allows it"
    )]
    TooCostly {
        /// What is allowed, in MiB.
        limit: u32,
        /// What would be enough.
        needed: u64,
    },
    /// The memory that the passphrase's Argon2id asks for is not there.
    #[error("opening the passphrase takes {0} KiB of memory, which this machine does not give")]
    NoMemory(u32),
    /// A line of the recovery text is mistyped, missing or out of order.
    #[error("line {0} of the recovery text is wrong or missing; compare it with the original")]
    RecoveryLine(u32),
    /// A word of the recovery words is none of the list.
    #[error("word {0} of the recovery words is not one of the list; compare it with the original")]
    RecoveryWord(u32),
    /// The recovery text as a whole is not what was made.
    #[error(
        "this is not a whole recovery text; give all of it, from its BEGIN line to its END line"
    )]
    RecoveryDamaged,
    /// Made by a newer program.
    #[error("the recovery text is of version {0}, this program reads up to 2; update atrest")]
    RecoveryFromTheFuture(u8),
    /// Nowhere to look for key files.
    #[error(
        "neither XDG_CONFIG_HOME nor HOME is set to an absolute path; name the key file with --key-file or ATREST_KEY_FILE"
    )]
    NoHome,
    /// The system refused.
    #[error("cannot {action} {}: {source}", .path.shown())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl KeyError {
    /// Whether the keys were read, and what was asked is not for them in the state they are in.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::NoSuchKey(_)
            | Self::NoSuchVersion { .. }
            | Self::VersionRetired { .. }
            | Self::Disabled(_)
            | Self::PendingDeletion { .. }
            | Self::Destroyed(_)
            | Self::BadName(_)
            | Self::NameTaken(_)
            | Self::CurrentVersion { .. }
            | Self::BadWaitingPeriod(_)
            | Self::NotPendingDeletion(_)
            | Self::NotScheduled(_)
            | Self::TooEarly { .. }
            | Self::PastGrant(_)
            | Self::BadGrant
            | Self::LocksOut { .. }
            | Self::NoSuchGrant
            | Self::Full { .. }
            | Self::LastProtector(_)
            | Self::NoSuchProtector(_) => true,
            Self::NoSuchKeyId(_)
            | Self::Unprotected(_)
            | Self::Replaced(_)
            | Self::Forged { .. }
            | Self::Missing(_)
            | Self::Exists(_)
            | Self::NotRegular(_)
            | Self::Exposed { .. }
            | Self::PassphraseExposed { .. }
            | Self::WrongOwner { .. }
            | Self::Damaged(_)
            | Self::FromTheFuture { .. }
            | Self::OtherVault { .. }
            | Self::BackupOfOther { .. }
            | Self::PassphraseNeeded
            | Self::NewPassphraseNeeded
            | Self::WrongPassphrase(_)
            | Self::ProtectorGone(_)
            | Self::EmptyPassphrase
            | Self::LongPassphrase
            | Self::PassphraseLines
            | Self::PassphrasesDiffer
            | Self::BadCost
            | Self::TooCostly { .. }
            | Self::NoMemory(_)
            | Self::RecoveryLine(_)
            | Self::RecoveryWord(_)
            | Self::RecoveryDamaged
            | Self::RecoveryFromTheFuture(_)
            | Self::NoHome
            | Self::Io { .. } => false,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}
