//! Checking every block of the vault.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, Serializer};

use super::tally::{FileFailure, Pass, Progress};
use crate::fs::Fs;
use crate::store::{Access, FileReport, VaultError};

/// What [`Fs::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySummary {
    /// Files checked.
    pub files: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Plaintext bytes checked.
    pub bytes: u64,
    /// What is not as it was sealed.
    pub damaged: Vec<FileFailure>,
    /// Files whose last mount crashed: readable, but nothing vouches for their length.
    #[serde(serialize_with = "lossy_all")]
    pub left_by_crash: Vec<PathBuf>,
    /// Blocks with content that their files' headers list among those that may be holes: zeroing
    /// them would go unnoticed.
    pub unguarded_blocks: u64,
}

fn lossy_all<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

impl Fs {
    /// Opens every block of every file at or below `start`, a path in the mount. `progress` returns
    /// whether to go on.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` stopped it; [`VaultError::Io`] where `start` can't be
    /// opened. What is wrong with files is in the summary.
    pub fn verify(
        &self,
        start: &Path,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<VerifySummary, VaultError> {
        let summary = Mutex::new(VerifySummary::default());
        let tally = self.tally(start, progress)?;
        self.each_file(
            start,
            &|visited| {
                let report =
                    self.on_visited(visited, Access::ReadOnly, |file, _| Ok(file.verify()));
                let report = tally.done(report, || visited.path());
                summary.lock().add(report.as_ref(), || visited.path());
                tally.advance(Pass::Initial)
            },
            &|path, error| {
                let failure = FileFailure { path: path.to_path_buf(), reason: error.to_string() };
                summary.lock().damaged.push(failure);
            },
        )?;
        tally.require_end()?;
        let mut summary = summary.into_inner();
        summary.damaged.extend(tally.into_failures());
        summary.damaged.sort_by(|a, b| a.path.cmp(&b.path));
        summary.left_by_crash.sort();
        Ok(summary)
    }
}

impl VerifySummary {
    /// One more file, whose report there is unless it could not be opened.
    fn add(&mut self, report: Option<&FileReport>, path: impl Fn() -> PathBuf) {
        self.files += 1;
        let Some(report) = report else { return };
        self.blocks += report.extent.blocks;
        self.bytes += report.extent.bytes;
        self.unguarded_blocks += report.unguarded_blocks;
        if report.left_by_crash {
            self.left_by_crash.push(path());
        }
        let damage = report.damage.iter();
        let damage = damage.map(|error| FileFailure { path: path(), reason: error.to_string() });
        self.damaged.extend(damage);
    }
}
