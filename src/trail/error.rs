//! What can be wrong with a trail.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::Show;

/// Why a trail can't be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// Nowhere to look for trails.
    #[error(
        "neither XDG_STATE_HOME nor HOME is set to an absolute path; name the trail's directory with --trail"
    )]
    NoHome,
    /// There is none.
    #[error("there is no trail in {}: none was kept yet, or --trail names another place", .0.shown())]
    Missing(PathBuf),
    /// Somebody else writes it.
    #[error(
        "the trail in {} is being written by another process; a copy of a vault needs a trail of its own: name one with --trail",
        .0.shown()
    )]
    InUse(PathBuf),
    /// Others than the owner may change it.
    #[error("the trail's directory {} is open to others or belongs to them; `chmod 700` it", .0.shown())]
    Exposed(PathBuf),
    /// The key file has no key for it.
    #[error(
        "the key file is of before there was a trail and can't be changed; mount with --no-trail"
    )]
    NoKey,
    /// How far it has come can't be told.
    #[error("the vault's record of its trail was changed or damaged")]
    Seal,
    /// Events can't be written, and so keys not be used.
    #[error("no key may be used while the trail can't be written: {0}")]
    Refused(String),
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

impl TrailError {
    pub(super) fn io(action: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::Io { action, path: path.to_owned(), source: source.into() }
    }
}
