//! Errors of the trail.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::Show;

/// Why a trail can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// There is no default directory.
    #[error(
        "neither XDG_STATE_HOME nor HOME is set to an absolute path; name the trail's directory with --trail"
    )]
    NoHome,
    /// The directory does not exist.
    #[error("there is no trail in {}: none was kept yet, or --trail names another place", .0.shown())]
    Missing(PathBuf),
    /// Another process holds the lock.
    #[error(
        "the trail in {} is being written by another process; a copy of a vault needs a trail of its own: name one with --trail",
        .0.shown()
    )]
    InUse(PathBuf),
    /// The directory belongs to another user, or others may enter it.
    #[error("the trail's directory {} is open to others or belongs to them; `chmod 700` it", .0.shown())]
    Exposed(PathBuf),
    /// The directory is a symbolic link.
    #[error("the trail's directory {} is a symbolic link or no directory; name the place it leads to with --trail", .0.shown())]
    Link(PathBuf),
    /// The key file has no key for a trail.
    #[error(
        "the key file is of before there was a trail and can't be changed; mount with --no-trail"
    )]
    NoKey,
    /// The checkpoint is damaged or was changed.
    #[error("the vault's record of its trail was changed or damaged")]
    Checkpoint,
    /// Events cannot be written, and the trail is to fail closed.
    #[error("no key may be used while the trail can't be written: {0}")]
    Refused(String),
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

impl TrailError {
    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}
