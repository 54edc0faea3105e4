//! Errors of passphrases and protectors.

use std::path::PathBuf;

use crate::sys::Show;

/// Why a key file cannot be opened, or its protectors changed.
#[derive(Debug, thiserror::Error)]
pub enum ProtectorError {
    /// The key file opens without the passphrase that was given.
    #[error(
        "key file {} opens without a passphrase, though one was given: it may have been replaced; leave the passphrase out if it is the right one",
        .0.shown()
    )]
    Unprotected(PathBuf),
    /// Users other than the owner may read or write the passphrase file.
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
    /// A passphrase is needed, and none was given.
    #[error(
        "the key file is protected by a passphrase; give it with --passphrase-file or --passphrase-command, or run at a terminal"
    )]
    PassphraseNeeded,
    /// There is no terminal to ask for a new passphrase.
    #[error(
        "there is no terminal to ask for the new passphrase: give it with --new-passphrase-file or --new-passphrase-command"
    )]
    NewPassphraseNeeded,
    /// The passphrase opens none of the protectors.
    #[error("the passphrase does not open key file {}; nothing was changed", .0.shown())]
    WrongPassphrase(PathBuf),
    /// The protector that opened the key file was removed.
    #[error(
        "the passphrase that key file {} was opened with has been removed from it; open it with a current one",
        .0.shown()
    )]
    ProtectorGone(PathBuf),
    /// An empty passphrase.
    #[error("the passphrase is empty; give one of at least one character")]
    EmptyPassphrase,
    /// The passphrase has more than one line.
    #[error("there is more than one line where the passphrase is read from; which one is it?")]
    PassphraseLines,
    /// The two passphrases that were typed differ.
    #[error("the two passphrases are not the same; nothing was changed")]
    PassphrasesDiffer,
    /// Longer than any passphrase.
    #[error("the passphrase is longer than 64 KiB; is it the right file?")]
    LongPassphrase,
    /// The last protector cannot be removed.
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
    /// The Argon2id cost in the file exceeds the limit.
    #[error(
        "the key file's passphrase may take {limit} MiB of memory and the time for that, and its Argon2id asks for more: if that is its own, `--max-argon2-memory {needed}` allows it"
    )]
    TooCostly {
        /// The limit in MiB.
        limit: u32,
        /// A sufficient limit in MiB.
        needed: u64,
    },
    /// There is not enough memory for Argon2id.
    #[error("opening the passphrase takes {0} KiB of memory, which this machine does not give")]
    NoMemory(u32),
}

impl ProtectorError {
    /// Whether the key file was opened, and its protectors forbid the change.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Self::LastProtector(_) | Self::NoSuchProtector(_))
    }
}
