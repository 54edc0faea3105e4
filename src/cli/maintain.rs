//! Work on every file of a vault, by the daemon or without one, and what is told of it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::fs::{self, Fs, Progress, Rewrap};

use super::exit::Failure;
use super::vault;

/// A file with which something is the matter. A path that isn't UTF-8 is shown with U+FFFD.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Trouble {
    /// Its path in the mount.
    pub path: String,
    /// What is the matter.
    pub reason: String,
}

/// What a rewrap did. This is what the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rewrapped {
    /// Files whose header was written anew, the vault's own key among them.
    pub rewrapped: u64,
    /// Files that were at the newest version.
    pub already_new: u64,
    /// Files without content, and so without a key.
    pub empty: u64,
    /// Files that could not be rewrapped.
    pub failed: Vec<Trouble>,
}

/// What a verify found. This is what `atrest verify --json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verified {
    /// Files checked.
    pub files: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Plaintext bytes checked.
    pub bytes: u64,
    /// What is not as it was sealed.
    pub damaged: Vec<Trouble>,
    /// Files whose last mount crashed: readable, but nothing vouches for their length.
    pub left_by_crash: Vec<String>,
}

type Go<'a> = &'a (dyn Fn(Progress) -> bool + Sync);

/// Brings every header to the newest version of its master key.
///
/// # Errors
/// What is the matter with the vault as a whole.
pub fn rewrap(fs: &Fs, vault: &Path, progress: Go<'_>) -> Result<Rewrapped, Failure> {
    let summary =
        fs.rewrap(&Rewrap::default(), progress).map_err(|error| vault::failure(vault, error))?;
    Ok(Rewrapped {
        rewrapped: summary.rewrapped,
        already_new: summary.already_new,
        empty: summary.empty,
        failed: summary.failed.into_iter().map(Trouble::from).collect(),
    })
}

/// Checks every block at or below a path in the mount.
///
/// # Errors
/// What is the matter with the path, or with the vault as a whole.
pub fn verify(fs: &Fs, vault: &Path, path: &Path, progress: Go<'_>) -> Result<Verified, Failure> {
    let summary =
        fs.verify(path, progress).map_err(|error| vault::failure(&vault.join(path), error))?;
    let shown = |path: &std::path::PathBuf| path.to_string_lossy().into_owned();
    Ok(Verified {
        files: summary.files,
        blocks: summary.blocks,
        bytes: summary.bytes,
        damaged: summary.damaged.into_iter().map(Trouble::from).collect(),
        left_by_crash: summary.left_by_crash.iter().map(shown).collect(),
    })
}

impl From<fs::Failure> for Trouble {
    fn from(failure: fs::Failure) -> Self {
        Self { path: failure.path.to_string_lossy().into_owned(), reason: failure.reason }
    }
}
