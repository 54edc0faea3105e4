//! What can go wrong with an operation of the file system: what happened, not which number.

use std::path::PathBuf;

use log::Level;
use rustix::io::Errno;

use crate::keys::KeyError;
use crate::keys::policy::Action;
use crate::store::FileError;
use crate::sys::Show;
use crate::trail::TrailError;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum FsError {
    /// There is no such name.
    #[error("there is no such name")]
    NotFound,
    /// The inode is known but can't be reached by any name any more.
    #[error("the file can't be reached by a name any more")]
    Stale,
    /// The vault's own directory is not part of the mount.
    #[error("the name is the vault's own")]
    Reserved,
    /// Neither the format nor the backing filesystem can do that.
    #[error("that is not supported")]
    Unsupported,
    /// Flags or ranges that make no sense together.
    #[error("the arguments make no sense")]
    Invalid,
    /// The offset is not below the end of the file.
    #[error("there is nothing behind that offset")]
    PastEnd,
    /// The master key of a directory can't be determined: its attribute was not made by this vault.
    #[error("{}: its `user.atrest.key` was changed in the vault; `atrest key assign` sets it anew", .0.shown())]
    ForgedAssignment(PathBuf),
    /// The file's master key may not be used.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The policy of a master key does not let the caller.
    #[error("user {uid} may not {action} with the master key `{key}`")]
    Denied {
        /// The caller's user.
        uid: u32,
        /// What they may not.
        action: Action,
        /// The key's name.
        key: String,
    },
    /// The trail can't be written, and no key may be used meanwhile.
    #[error(transparent)]
    Trail(#[from] TrailError),
    /// The backing filesystem failed; its number is passed on.
    #[error("the backing filesystem says: {0}")]
    Backing(#[from] Errno),
    /// A sealed file can't be read or written.
    #[error("{}: {error}", .path.shown())]
    File {
        /// The file's path in the mount, as far as it is known.
        path: PathBuf,
        /// What is the matter with it.
        error: FileError,
    },
}

impl FsError {
    /// How loudly it belongs into the log.
    pub fn level(&self) -> Level {
        match self {
            Self::File { error: FileError::Integrity(_), .. } => Level::Error,
            // A key out of use is an operator's doing.
            Self::File { error: FileError::Key(_), .. } | Self::Key(_) => Level::Warn,
            Self::File { error: FileError::Io(error), .. }
                if error.raw_os_error() == Some(Errno::IO.raw_os_error()) =>
            {
                Level::Error
            }
            Self::Backing(Errno::IO) | Self::ForgedAssignment(_) => Level::Error,
            Self::NotFound
            | Self::Stale
            | Self::Reserved
            | Self::Unsupported
            | Self::Invalid
            | Self::PastEnd
            // That the trail fails is logged where it is written, once.
            | Self::Trail(_)
            | Self::Denied { .. }
            | Self::Backing(_)
            | Self::File { .. } => Level::Debug,
        }
    }
}
