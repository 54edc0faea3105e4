//! Verifying a whole trail, or the last files of one.

use std::io::ErrorKind;
use std::path::Path;

use super::chain::Head;
use super::directory::Directory;
use super::report::Report;
use super::verifier::Verifier;
use super::{Checkpoint, CheckpointStore, Mounts, TrailError};
use crate::crypto::TrailKeys;

/// Verifies a whole trail, which another process may be writing. `known` is a head that was kept
/// elsewhere. `mounts` are those that the vault knew of before this call; `None` where its record of
/// them can't be authenticated. `doubts` are reported as further findings about the whole trail.
///
/// # Errors
/// [`TrailError::Missing`], [`TrailError::Io`]. Tampering is in the report.
pub fn verify(
    directory: &Path,
    keys: &TrailKeys,
    checkpoints: &dyn CheckpointStore,
    known: Option<Head>,
    mounts: Option<&Mounts>,
    doubts: &[String],
) -> Result<Report, TrailError> {
    let before = Checkpoint::read(checkpoints, keys);
    let saved = before.as_ref().ok().and_then(Option::as_ref);
    let mut verifier = loop {
        let mut verifier = Verifier::new(keys, saved, known);
        let directory = match Directory::find(directory) {
            // Then all lines that the checkpoint knows of are missing.
            Err(TrailError::Missing(_)) if saved.is_some_and(|saved| saved.is_of(directory)) => {
                break verifier;
            }
            found => found?,
        };
        let mut files = directory.files()?.into_iter();
        match files.try_for_each(|first| verifier.read_file(&directory, first)) {
            // The mount removed its oldest file meanwhile.
            Err(TrailError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            read => break read.map(|()| verifier)?,
        }
    };
    verifier.end();
    // The checkpoint is written before a file is removed, so a new one explains a missing file.
    verifier.compare(before.and_then(|_| Checkpoint::read(checkpoints, keys)), mounts)?;
    doubts.iter().for_each(|doubt| verifier.find(doubt));
    let mut report = verifier.report;
    let found = report.findings.len();
    report.findings.retain(|finding| !verifier.acknowledged.contains(&finding.digest(keys)));
    report.acknowledged = (found - report.findings.len()) as u64;
    Ok(report)
}

/// The last files of a trail, from the last file of the checkpoint on.
pub(super) struct Tail {
    pub head: Head,
    pub is_sound: bool,
    /// Whole lines of the last file.
    pub lines: u64,
    /// Lines that do not begin a file.
    pub events: u64,
}

impl Tail {
    /// Verifies `files`.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn read(
        directory: &Directory,
        files: &[u64],
        keys: &TrailKeys,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Self, TrailError> {
        let mut verifier = Verifier::new(keys, checkpoint, None);
        for &first in files {
            verifier.read_file(directory, first)?;
        }
        let (lines, events) = (verifier.line, verifier.events);
        let head = verifier.end();
        let is_sound = verifier.report.findings.len() == verifier.noted;
        Ok(Self { head, is_sound, lines, events })
    }
}
