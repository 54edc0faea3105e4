//! The result of verifying a trail.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use crate::crypto::TrailKeys;

/// One defect of a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The file's name; none where it is about the trail as a whole.
    pub file: Option<String>,
    /// The line in the file, from 1.
    pub line: Option<u64>,
    /// The defect, in a sentence.
    pub what: String,
}

/// What [`verify`](super::verify()) found.
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
    /// The head of the trail, to be kept elsewhere.
    pub head: String,
    /// Lines after the checkpoint: of a mount that runs or has crashed.
    pub unsealed: u64,
    /// Mounts that kept no trail on purpose.
    #[serde(default)]
    pub without_trail: u64,
    /// Lost events that the trail records.
    #[serde(default)]
    pub lost: u64,
    /// The defects.
    pub findings: Vec<Finding>,
    /// How many defects were acknowledged.
    #[serde(default)]
    pub acknowledged: u64,
}

impl Finding {
    /// A MAC that identifies the finding in an acknowledgement.
    pub fn digest(&self, keys: &TrailKeys) -> String {
        let Self { file, line, what } = self;
        let mac = keys.seal.mac(format!("{file:?} {line:?} {what}").as_bytes());
        BASE64_STANDARD.encode(&mac[..12])
    }
}
