//! One master key and its versions.

use jiff::{SignedDuration, Timestamp};

use super::state::{KeyState, VersionState, now};
use crate::crypto::{Secret, VersionKey};
use crate::format::{KeyVersion, MasterKeyId};
use crate::keys::RingError;
use crate::keys::policy::Policy;

/// The default rotation period in days.
pub const DEFAULT_ROTATION_DAYS: u32 = 365;

/// One master key: a name, a state, and versions of which the current one wraps.
#[derive(Debug, Clone)]
pub struct MasterKey {
    pub(in crate::keys) id: MasterKeyId,
    pub(in crate::keys) name: String,
    pub(in crate::keys) state: KeyState,
    pub(in crate::keys) current: KeyVersion,
    pub(in crate::keys) rotate_every_days: u32,
    /// In ascending order of their numbers.
    pub(in crate::keys) versions: Vec<Version>,
    pub(in crate::keys) policy: Policy,
}

/// One version of a master key. It has material until it is retired.
#[derive(Debug, Clone)]
pub(in crate::keys) struct Version {
    pub(in crate::keys) number: KeyVersion,
    pub(in crate::keys) created: Timestamp,
    pub(in crate::keys) retired: Option<Timestamp>,
    pub(in crate::keys) material: Option<VersionKey>,
}

impl MasterKey {
    pub(super) fn create(name: String) -> Self {
        let mut key = Self {
            id: MasterKeyId::random(),
            name,
            state: KeyState::Enabled,
            current: KeyVersion(0),
            rotate_every_days: DEFAULT_ROTATION_DAYS,
            versions: Vec::new(),
            policy: Policy::default(),
        };
        key.add_version();
        key
    }

    /// Adds a version with new material and makes it the current one.
    pub(super) fn add_version(&mut self) -> KeyVersion {
        self.current = KeyVersion(self.current.0 + 1);
        self.versions.push(Version {
            number: self.current,
            created: now(),
            retired: None,
            material: Some(Secret::random()),
        });
        self.current
    }

    /// The id that file headers hold.
    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The state.
    pub fn state(&self) -> KeyState {
        self.state
    }

    /// The version that wraps.
    pub fn current(&self) -> KeyVersion {
        self.current
    }

    /// The rotation period in days; 0 for never.
    pub fn rotate_every_days(&self) -> u32 {
        self.rotate_every_days
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// All versions and their states, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = (KeyVersion, VersionState)> {
        self.versions.iter().map(|version| (version.number, self.state_of(version)))
    }

    /// When the current version is due for rotation; `None` for never.
    pub fn next_rotation(&self) -> Option<Timestamp> {
        let created = self.versions.last()?.created;
        (self.rotate_every_days > 0).then(|| after_days(created, self.rotate_every_days))
    }

    pub(super) fn state_of(&self, version: &Version) -> VersionState {
        match version.material {
            None => VersionState::Retired,
            Some(_) if version.number == self.current => VersionState::Current,
            Some(_) => VersionState::Enabled,
        }
    }

    pub(super) fn require_enabled(&self) -> Result<(), RingError> {
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(RingError::Disabled(self.name.clone())),
            KeyState::PendingDeletion(until) => {
                Err(RingError::PendingDeletion { key: self.name.clone(), until })
            }
            KeyState::Destroyed => Err(RingError::Destroyed(self.name.clone())),
        }
    }

    pub(super) fn material(&self, number: KeyVersion) -> Result<&VersionKey, RingError> {
        let version = self.versions.iter().rev().find(|version| version.number == number);
        match version.map(|version| &version.material) {
            Some(Some(material)) => Ok(material),
            Some(None) => {
                Err(RingError::VersionRetired { key: self.name.clone(), version: number })
            }
            None => Err(RingError::NoSuchVersion { key: self.name.clone(), version: number }),
        }
    }
}

/// `days` after `start`, or [`Timestamp::MAX`].
pub(super) fn after_days(start: Timestamp, days: u32) -> Timestamp {
    start.checked_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX)
}
