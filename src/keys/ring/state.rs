//! The states of a master key and of one of its versions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whether a master key may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// It wraps and unwraps.
    Enabled,
    /// It does neither until enabled.
    Disabled,
    /// It does neither; from this time on its material may be destroyed.
    PendingDeletion(Timestamp),
    /// Its material is gone.
    Destroyed,
}

impl KeyState {
    /// The state's word, as the command line and its JSON show it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion(_) => "pending-deletion",
            Self::Destroyed => "destroyed",
        }
    }
}

/// What a version of a master key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// It wraps, and unwraps what it wrapped.
    Current,
    /// It only unwraps.
    Enabled,
    /// Its material is gone, by retiring it or with its master key.
    Retired,
}

/// The time, in whole seconds.
pub(in crate::keys) fn now() -> Timestamp {
    whole_seconds(Timestamp::now())
}

/// `time` without its fraction of a second, as key files and recovery texts keep it.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).expect("the second of a time is a time")
}
