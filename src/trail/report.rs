//! What was found in a trail, and what is wrong with it.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

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
