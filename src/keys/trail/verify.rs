//! Whether a trail is as it was written.

use std::io::ErrorKind;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::chain::Head;
use super::check::Check;
use super::directory::Directory;
use super::{Mounts, Seal, SealKeeper, TrailError};
use crate::crypto::TrailKeys;

/// What is wrong at a place of the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file's name; none where it is about the trail as a whole.
    pub file: Option<String>,
    /// The line in the file, from 1.
    pub line: Option<u64>,
    /// In a sentence.
    pub what: String,
}

/// What [`verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Files looked at.
    pub files: u64,
    /// Lines looked at.
    pub lines: u64,
    /// The number of the first line that is kept.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// Its head, to be kept elsewhere.
    pub head: String,
    /// Lines behind those that the vault knows of: of a mount that runs or has crashed.
    pub unsealed: u64,
    /// Mounts that kept no trail, as they were told.
    #[serde(default)]
    pub without_trail: u64,
    /// Events that were lost while the trail could not be written, as it says itself.
    #[serde(default)]
    pub lost: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What was wrong and was acknowledged.
    #[serde(default)]
    pub acknowledged: u64,
}

impl Finding {
    /// What an acknowledgement keeps of it: the same for the same finding, and for no other.
    pub fn digest(&self, keys: &TrailKeys) -> String {
        let Self { file, line, what } = self;
        let mac = keys.seal.mac(format!("{file:?} {line:?} {what}").as_bytes());
        BASE64_STANDARD.encode(&mac[..12])
    }
}

/// Reads a whole trail, which may be written meanwhile. `keeper` has the vault's seal; `known` is a
/// head that was kept elsewhere; `mounts` are those that the vault knew of before this, `None` where its
/// record of them can't be authenticated.
///
/// # Errors
/// [`TrailError::Missing`], [`TrailError::Io`]; what is wrong with the trail is in the report.
pub fn verify(
    directory: &Path,
    keys: &TrailKeys,
    keeper: &dyn SealKeeper,
    known: Option<Head>,
    mounts: Option<&Mounts>,
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
