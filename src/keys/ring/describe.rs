//! Master keys without their material, as `key list` shows them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::key_ring::KeyRing;
use super::master_key::{MasterKey, Version};
use super::state::{KeyState, VersionState};
use crate::format::{KeyVersion, MasterKeyId};
use crate::keys::KeyError;

/// A master key without its material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDescription {
    /// The name.
    pub name: String,
    /// The id that file headers hold.
    pub id: MasterKeyId,
    /// Where its material is: always `local`.
    pub kind: String,
    /// Whether files whose directory names no other key use it.
    pub default: bool,
    /// `enabled`, `disabled`, `pending-deletion` or `destroyed`.
    pub state: String,
    /// When its material may be destroyed, if it is pending deletion.
    pub deletion_date: Option<Timestamp>,
    /// The version that wraps.
    pub current_version: KeyVersion,
    /// The rotation period in days; 0 for never.
    pub rotate_every_days: u32,
    /// When it is due for rotation; `None` for never, or where it is not enabled.
    pub next_rotation: Option<Timestamp>,
    /// All versions, oldest first.
    pub versions: Vec<VersionDescription>,
}

/// A version of a master key without its material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionDescription {
    /// Its number.
    pub version: KeyVersion,
    /// Its state.
    pub state: VersionState,
    /// When it was created.
    pub created: Timestamp,
    /// When its material was removed.
    pub retired: Option<Timestamp>,
}

impl KeyRing {
    /// All keys, in the order of their creation.
    pub fn describe(&self) -> Vec<KeyDescription> {
        self.keys.iter().map(|key| key.describe(self.default)).collect()
    }

    /// The named key.
    ///
    /// # Errors
    /// [`KeyError::Ring`] where there is no such key.
    pub fn describe_key(&self, name_or_id: &str) -> Result<KeyDescription, KeyError> {
        let key = self.key(name_or_id)?;
        Ok(key.describe(self.default))
    }
}

impl MasterKey {
    fn describe(&self, default: MasterKeyId) -> KeyDescription {
        let enabled = self.state == KeyState::Enabled;
        let version = |version: &Version| VersionDescription {
            version: version.number,
            state: self.state_of(version),
            created: version.created,
            retired: version.retired,
        };
        KeyDescription {
            name: self.name.clone(),
            id: self.id,
            kind: "local".to_owned(),
            default: self.id == default,
            state: self.state.word().to_owned(),
            deletion_date: match self.state {
                KeyState::PendingDeletion(until) => Some(until),
                KeyState::Enabled | KeyState::Disabled | KeyState::Destroyed => None,
            },
            current_version: self.current,
            rotate_every_days: self.rotate_every_days,
            next_rotation: self.next_rotation().filter(|_| enabled),
            versions: self.versions.iter().map(version).collect(),
        }
    }
}
