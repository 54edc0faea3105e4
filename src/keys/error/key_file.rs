//! Errors of the key file on disk.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::VaultId;
use crate::sys::Show;

/// Why a key file cannot be found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The key file is older than one that this process has used, or has other keys.
    #[error(
        "key file {} was put back or replaced since this mount began: it is not used; put the newest one back",
        .0.shown()
    )]
    Replaced(PathBuf),
    /// There is no key file at this path.
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
    /// Users other than the owner may read or write it.
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
    /// It belongs to another user.
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
    /// The bytes are not those of a key file, or do not authenticate.
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
        found: VaultId,
        /// The vault at hand.
        wanted: VaultId,
    },
    /// There is no default directory for key files.
    #[error(
        "neither XDG_CONFIG_HOME nor HOME is set to an absolute path; name the key file with --key-file or ATREST_KEY_FILE"
    )]
    NoHome,
    /// A system call failed.
    #[error("cannot {action} {}: {source}", .path.shown())]
    Io {
        /// The operation.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl KeyFileError {
    pub(crate) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}
