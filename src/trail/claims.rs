//! What a line claims that verifying compares: its number, and mounts, gaps and acknowledgements.

use serde::Deserialize;

use super::EventName;
use super::chain::{Head, link_from_text};
use crate::format::Epoch;

/// The fields of a line that verifying reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claims {
    pub sequence: u64,
    pub event_name: EventName,
    request_parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    details: Option<serde_json::Value>,
}

/// A statement of an authentic line about mounts or the trail.
pub(super) enum Statement {
    /// A mount began.
    Begin {
        /// Its number.
        epoch: Epoch,
        /// The one before it had ended cleanly.
        after_clean_end: bool,
    },
    /// A mount ended.
    End(Epoch),
    /// Events were lost while the trail could not be written.
    Gap {
        /// How many.
        lost: u64,
        /// The mount that ended meanwhile, 0 for none.
        epoch: Epoch,
    },
    /// These findings, by their digests, were acknowledged.
    Acknowledged(Vec<String>),
}

/// The first line of a file.
pub(super) struct FileStart {
    /// The end of the chain before the file.
    pub before: Head,
    /// What was wrong with the trail when the file was begun.
    pub trouble: Option<String>,
}

/// Parses a line without its link; `None` where it is not JSON of a line.
pub(super) fn parse_claims(body: &[u8]) -> Option<Claims> {
    serde_json::from_slice(&[body, b"}"].concat()).ok()
}

impl Claims {
    pub fn statement(&self) -> Option<Statement> {
        let details = || self.request_parameters.as_ref()?.details.as_ref();
        let epoch = || details()?.get("epoch")?.as_u64().map(Epoch);
        let is = |name| details().is_some_and(|details| details.get(name) == Some(&true.into()));
        match self.event_name {
            // Read-only mounts have no number of their own.
            EventName::Mount | EventName::Unmount if is("readOnly") => None,
            EventName::Mount => {
                Some(Statement::Begin { epoch: epoch()?, after_clean_end: is("afterCleanEnd") })
            }
            EventName::Unmount => epoch().map(Statement::End),
            EventName::TrailGap => Some(Statement::Gap {
                lost: details()?.get("lost")?.as_u64()?,
                epoch: epoch().unwrap_or_default(),
            }),
            EventName::AcknowledgeTrail => {
                let digests = details()?.get("findings")?.as_array()?.iter();
                let digests = digests.filter_map(serde_json::Value::as_str).map(str::to_owned);
                Some(Statement::Acknowledged(digests.collect()))
            }
            _ => None,
        }
    }

    /// The line as the first one of the file whose name says `first`; `None` where it is not.
    pub fn file_start(self, first: u64) -> Option<FileStart> {
        if self.event_name != EventName::TrailBegin || self.sequence != first {
            return None;
        }
        let details = self.request_parameters?.details?;
        let text = |field| details.get(field).and_then(serde_json::Value::as_str);
        let link = link_from_text(text("previousChain")?.as_bytes())?;
        let before = Head { sequence: first.checked_sub(1)?, link };
        Some(FileStart { before, trouble: text("trouble").map(str::to_owned) })
    }
}
