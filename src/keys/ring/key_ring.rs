//! The ring: all master keys of one vault, and the wrapping they do.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::state::{KeyState, VersionState, now};
use crate::crypto::{self, DataKey, Secret, TrailKeys, VersionKey, WrappedKey, fingerprint};
use crate::format::{KeyVersion, MasterKeyId, VolumeId, wrap_context};
use crate::keys::KeyError;
use crate::keys::policy::{Policy, Summary};

/// The name of the master key that a vault is made with.
pub const DEFAULT_KEY: &str = "default";
/// After how many days a key is due for rotation unless told otherwise.
pub const DEFAULT_ROTATION_DAYS: u32 = 365;

/// All master keys of one vault.
#[derive(Debug, Clone)]
pub struct KeyRing {
    pub(in crate::keys) volume: VolumeId,
    pub(in crate::keys) default: MasterKeyId,
    pub(in crate::keys) keys: Vec<MasterKey>,
    /// What authenticates the trail; none in key files of before there was one.
    pub(in crate::keys) trail: Option<Secret>,
}

/// Which master keys a ring had, and what their versions were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints {
    keys: BTreeSet<MasterKeyId>,
    versions: BTreeMap<(MasterKeyId, KeyVersion), [u8; 32]>,
}

impl Fingerprints {
    /// Whether a ring may have come of this one by somebody else's change: it has all its keys, each
    /// version that both have is the same, and there is such a version of each key that has material
    /// in both. The current version of a key is never retired, so only a forger has none.
    pub fn lead_to(&self, later: &Self) -> bool {
        let has_material =
            |prints: &Self, key: &MasterKeyId| prints.versions.keys().any(|(of, _)| of == key);
        let mut proven = BTreeSet::new();
        for (version, print) in &self.versions {
            match later.versions.get(version) {
                Some(found) if found == print => drop(proven.insert(version.0)),
                Some(_) => return false,
                None => {}
            }
        }
        let is_proven = |key: &MasterKeyId| proven.contains(key) || !has_material(later, key);
        self.keys.is_subset(&later.keys)
            && (!proven.is_empty() || self.versions.is_empty())
            && self.versions.keys().all(|(key, _)| is_proven(key))
    }
}

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

/// One version of a master key. `material` is there until it is retired.
#[derive(Debug, Clone)]
pub(in crate::keys) struct Version {
    pub(in crate::keys) number: KeyVersion,
    pub(in crate::keys) created: Timestamp,
    pub(in crate::keys) retired: Option<Timestamp>,
    pub(in crate::keys) material: Option<VersionKey>,
}

impl KeyRing {
    /// A ring for `vault` with one enabled key, [`DEFAULT_KEY`], at version 1.
    pub fn create(vault: VolumeId) -> Self {
        let key = MasterKey::create(DEFAULT_KEY.to_owned());
        Self { volume: vault, default: key.id, keys: vec![key], trail: Some(Secret::random()) }
    }

    /// The vault whose keys these are.
    pub fn volume_id(&self) -> VolumeId {
        self.volume
    }

    /// What the trail is authenticated with, if the key file has it.
    pub fn trail_keys(&self) -> Option<TrailKeys> {
        let key = self.trail.as_ref()?;
        Some(TrailKeys::derive(key, self.volume.as_bytes()))
    }

    /// How many versions all its keys have had, with those that were retired.
    pub fn version_count(&self) -> u64 {
        self.keys.iter().map(|key| key.versions.len() as u64).sum()
    }

    /// Gives a ring of before there was a trail what authenticates one.
    pub fn ensure_trail_key(&mut self) {
        self.trail.get_or_insert_with(Secret::random);
    }

    /// Tells the material of each version that is there, without giving it.
    pub fn fingerprints(&self) -> Fingerprints {
        let of_key = |key: &MasterKey| {
            let present = key.versions.iter().filter_map(|version| {
                Some(((key.id, version.number), fingerprint(version.material.as_ref()?)))
            });
            present.collect::<Vec<_>>()
        };
        let keys = self.keys.iter().map(|key| key.id).collect();
        Fingerprints { keys, versions: self.keys.iter().flat_map(of_key).collect() }
    }

    /// The key for files whose directory names no other.
    pub fn default_key(&self) -> &MasterKey {
        self.key_by_id(&self.default).expect("the default key is one of the ring's")
    }

    /// The key called `name_or_id`.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`].
    pub fn key(&self, name_or_id: &str) -> Result<&MasterKey, KeyError> {
        let index = self.position(name_or_id)?;
        Ok(&self.keys[index])
    }

    /// The key with this id.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKeyId`].
    pub fn key_by_id(&self, id: &MasterKeyId) -> Result<&MasterKey, KeyError> {
        self.keys.iter().find(|key| key.id == *id).ok_or(KeyError::NoSuchKeyId(*id))
    }

    /// All keys, in the order they were made.
    pub fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        self.keys.iter()
    }

    /// Wraps `key` under the current version of the named master key, bound to this vault and to
    /// `subject`: a file id, or the volume id for the vault's own key.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], or the state that the key is in when that is not enabled.
    pub fn wrap(
        &self,
        name_or_id: &str,
        subject: &[u8; 16],
        key: &DataKey,
    ) -> Result<(MasterKeyId, KeyVersion, WrappedKey), KeyError> {
        self.wrap_with(self.key(name_or_id)?, subject, key)
    }

    /// [`KeyRing::wrap`] under the key with this id.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKeyId`], or the state that the key is in when that is not enabled.
    pub fn wrap_by_id(
        &self,
        id: &MasterKeyId,
        subject: &[u8; 16],
        key: &DataKey,
    ) -> Result<(MasterKeyId, KeyVersion, WrappedKey), KeyError> {
        self.wrap_with(self.key_by_id(id)?, subject, key)
    }

    fn wrap_with(
        &self,
        master: &MasterKey,
        subject: &[u8; 16],
        key: &DataKey,
    ) -> Result<(MasterKeyId, KeyVersion, WrappedKey), KeyError> {
        master.require_enabled()?;
        let context = wrap_context(&self.volume, subject, &master.id, master.current);
        let wrapped = crypto::wrap(master.material(master.current)?, &context, key);
        Ok((master.id, master.current, wrapped))
    }

    /// Opens what [`KeyRing::wrap`] made for `subject`.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKeyId`], [`KeyError::NoSuchVersion`], [`KeyError::VersionRetired`], the
    /// state that the key is in when that is not enabled, or [`KeyError::Forged`].
    pub fn unwrap(
        &self,
        id: &MasterKeyId,
        version: KeyVersion,
        subject: &[u8; 16],
        wrapped: &WrappedKey,
    ) -> Result<DataKey, KeyError> {
        self.key_by_id(id)?.require_enabled()?;
        self.unwrap_in_any_state(id, version, subject, wrapped)
    }

    /// [`KeyRing::unwrap`] to authenticate what names the key: whether it may be used does not matter,
    /// as long as its material is there.
    ///
    /// # Errors
    /// As [`KeyRing::unwrap`], but for the key's state.
    pub fn unwrap_in_any_state(
        &self,
        id: &MasterKeyId,
        version: KeyVersion,
        subject: &[u8; 16],
        wrapped: &WrappedKey,
    ) -> Result<DataKey, KeyError> {
        let master = self.key_by_id(id)?;
        let context = wrap_context(&self.volume, subject, id, version);
        crypto::unwrap(master.material(version)?, &context, wrapped)
            .map_err(|_| KeyError::Forged { key: master.name.clone(), version })
    }

    /// Whether the key with this id may be used.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKeyId`], or the state that it is in when that is not enabled.
    pub fn require_enabled(&self, id: &MasterKeyId) -> Result<(), KeyError> {
        self.key_by_id(id)?.require_enabled()
    }

    /// Whether every key may be used.
    pub fn all_enabled(&self) -> bool {
        self.keys.iter().all(|key| key.state == KeyState::Enabled)
    }

    /// What the policies of all keys come to.
    pub fn summary(&self) -> Summary {
        Summary::of(self.keys.iter().map(|key| &key.policy))
    }

    /// The keys whose current version is older at `now` than their rotation period.
    pub fn rotation_due(&self, now: Timestamp) -> Vec<&MasterKey> {
        self.keys
            .iter()
            .filter(|key| key.state == KeyState::Enabled)
            .filter(|key| key.next_rotation().is_some_and(|due| due <= now))
            .collect()
    }

    /// When the next of the keys that may be used is due for rotation; `None` for never.
    pub fn next_rotation(&self) -> Option<Timestamp> {
        let enabled = self.keys.iter().filter(|key| key.state == KeyState::Enabled);
        enabled.filter_map(MasterKey::next_rotation).min()
    }

    /// Where the key called `name_or_id` is; a name goes before an id.
    pub(super) fn position(&self, name_or_id: &str) -> Result<usize, KeyError> {
        let named = self.keys.iter().position(|key| key.name == name_or_id);
        named
            .or_else(|| self.keys.iter().position(|key| key.id.to_string() == name_or_id))
            .ok_or_else(|| KeyError::NoSuchKey(name_or_id.to_owned()))
    }
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

    /// Makes a fresh version the current one.
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

    /// The id that headers name it by.
    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    /// The name that people know it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may be used.
    pub fn state(&self) -> KeyState {
        self.state
    }

    /// The version that wraps.
    pub fn current(&self) -> KeyVersion {
        self.current
    }

    /// Its rotation period in days; 0 for never.
    pub fn rotate_every_days(&self) -> u32 {
        self.rotate_every_days
    }

    /// Who may use it.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The versions it has had, oldest first, each with what it does.
    pub fn versions(&self) -> impl Iterator<Item = (KeyVersion, VersionState)> {
        self.versions.iter().map(|version| (version.number, self.state_of(version)))
    }

    /// When its current version is due for rotation; `None` for never.
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

    pub(super) fn require_enabled(&self) -> Result<(), KeyError> {
        match self.state {
            KeyState::Enabled => Ok(()),
            KeyState::Disabled => Err(KeyError::Disabled(self.name.clone())),
            KeyState::PendingDeletion(until) => {
                Err(KeyError::PendingDeletion { key: self.name.clone(), until })
            }
            KeyState::Destroyed => Err(KeyError::Destroyed(self.name.clone())),
        }
    }

    fn material(&self, number: KeyVersion) -> Result<&VersionKey, KeyError> {
        let version = self.versions.iter().rev().find(|version| version.number == number);
        match version.map(|version| &version.material) {
            Some(Some(material)) => Ok(material),
            Some(None) => Err(KeyError::VersionRetired { key: self.name.clone(), version: number }),
            None => Err(KeyError::NoSuchVersion { key: self.name.clone(), version: number }),
        }
    }
}

/// `days` after `start`, or the last time there is.
pub(super) fn after_days(start: Timestamp, days: u32) -> Timestamp {
    start.checked_add(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MAX)
}
