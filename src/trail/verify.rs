//! Whether a trail is as it was written.

use std::io::ErrorKind;
use std::path::Path;

use super::chain::Head;
use super::directory::Directory;
use super::report::Report;
use super::verifier::Check;
use super::{Mounts, Seal, SealKeeper, TrailError};
use crate::crypto::TrailKeys;

/// Reads a whole trail, which may be written meanwhile. `keeper` has the vault's seal; `known` is a
/// head that was kept elsewhere; `mounts` are those that the vault knew of before this, `None` where its
/// record of them can't be authenticated; `doubts` are what else speaks against the trail as a whole.
///
/// # Errors
/// [`TrailError::Missing`], [`TrailError::Io`]; what is wrong with the trail is in the report.
pub fn verify(
    directory: &Path,
    keys: &TrailKeys,
    keeper: &dyn SealKeeper,
    known: Option<Head>,
    mounts: Option<&Mounts>,
    doubts: &[String],
) -> Result<Report, TrailError> {
    let before = Seal::read(keeper, keys);
    let sealed = before.as_ref().ok().and_then(Option::as_ref);
    let mut check = loop {
        let directory = Directory::find(directory)?;
        let mut check = Check::new(keys, sealed, known);
        match directory.files()?.iter().try_for_each(|first| check.file(&directory, *first)) {
            // The oldest are taken away by a mount that goes on.
            Err(TrailError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            read => break read.map(|()| check)?,
        }
    };
    check.end();
    // Before they are, the vault is told: where one was missed, it is by now.
    check.compare(before.and_then(|_| Seal::read(keeper, keys)), mounts)?;
    doubts.iter().for_each(|doubt| check.find(doubt));
    let mut report = check.report;
    let found = report.findings.len();
    report.findings.retain(|finding| !check.acknowledged.contains(&finding.digest(keys)));
    report.acknowledged = (found - report.findings.len()) as u64;
    Ok(report)
}

/// The last files of a trail, from the one on that the vault knows of.
pub(super) struct Tail {
    pub head: Head,
    pub is_sound: bool,
    /// Whole lines of the last file.
    pub lines: u64,
    /// Lines that do not begin a file.
    pub events: u64,
}

impl Tail {
    /// # Errors
    /// [`TrailError::Io`].
    pub fn read(
        directory: &Directory,
        files: &[u64],
        keys: &TrailKeys,
        seal: Option<&Seal>,
    ) -> Result<Self, TrailError> {
        let mut check = Check::new(keys, seal, None);
        for &first in files {
            check.file(directory, first)?;
        }
        let (lines, events) = (check.line, check.events);
        let head = check.end();
        Ok(Self { head, is_sound: check.report.findings.len() == check.noted, lines, events })
    }
}
