//! The states of a master key and of one of its versions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The state of a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// It wraps and unwraps.
    Enabled,
    /// It does neither until it is enabled.
    Disabled,
    /// It does neither. Its material may be destroyed from this time on.
    PendingDeletion(Timestamp),
    /// Its material is gone.
    Destroyed,
}

impl KeyState {
    /// The name of the state on the command line and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::PendingDeletion(_) => "pending-deletion",
            Self::Destroyed => "destroyed",
        }
    }
}

/// The state of a version of a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionState {
    /// It wraps, and unwraps what it wrapped.
    Current,
    /// It only unwraps.
    Enabled,
    /// Its material is gone: it was retired, or its master key was destroyed.
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
