//! The ring: all master keys of one vault; wrapping and unwrapping.

use jiff::Timestamp;

use super::master_key::MasterKey;
use super::state::KeyState;
use crate::crypto::{self, DataKey, Secret, TrailKeys, WrappedKey};
use crate::format::{KeyVersion, MasterKeyId, VaultId, wrap_context};
use crate::keys::policy::Summary;
use crate::keys::{KeyError, RingError};

/// The name of the master key that a vault is made with.
pub const DEFAULT_KEY: &str = "default";

/// All master keys of one vault.
#[derive(Debug, Clone)]
pub struct KeyRing {
    pub(in crate::keys) vault_id: VaultId,
    pub(in crate::keys) default: MasterKeyId,
    pub(in crate::keys) keys: Vec<MasterKey>,
    /// Authenticates the trail; `None` in key files that are older than the trail.
    pub(in crate::keys) trail: Option<Secret>,
}

impl KeyRing {
    /// A ring for `vault` with one enabled key, [`DEFAULT_KEY`], at version 1.
    pub fn create(vault: VaultId) -> Self {
        let key = MasterKey::create(DEFAULT_KEY.to_owned());
        Self { vault_id: vault, default: key.id, keys: vec![key], trail: Some(Secret::random()) }
    }

    /// The vault whose keys these are.
    pub fn vault_id(&self) -> VaultId {
        self.vault_id
    }

    /// The keys of the trail; `None` in key files that are older than the trail.
    pub fn trail_keys(&self) -> Option<TrailKeys> {
        let key = self.trail.as_ref()?;
        Some(TrailKeys::derive(key, self.vault_id.as_bytes()))
    }

    /// The number of versions of all keys, retired ones included.
    pub fn version_count(&self) -> u64 {
        self.keys.iter().map(|key| key.versions.len() as u64).sum()
    }

    /// Adds the key of the trail where there is none.
    pub fn ensure_trail_key(&mut self) {
        self.trail.get_or_insert_with(Secret::random);
    }

    /// The key of files whose directory names no other.
    pub fn default_key(&self) -> &MasterKey {
        self.key_by_id(&self.default).expect("the default key is one of the ring's")
    }

    /// The key called `name_or_id`.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`].
    pub fn key(&self, name_or_id: &str) -> Result<&MasterKey, KeyError> {
        let index = self.position(name_or_id)?;
        Ok(&self.keys[index])
    }

    /// The key with this id.
    ///
    /// # Errors
    /// [`RingError::NoSuchKeyId`].
    pub fn key_by_id(&self, id: &MasterKeyId) -> Result<&MasterKey, KeyError> {
        self.keys.iter().find(|key| key.id == *id).ok_or_else(|| RingError::NoSuchKeyId(*id).into())
    }

    /// All keys, in the order they were made.
    pub fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        self.keys.iter()
    }

    /// Wraps `key` under the current version of the named master key, bound to this vault and to
    /// `subject`: a file id, or the vault id for the vault's own key.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], or the error of a key that is not enabled.
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
    /// [`RingError::NoSuchKeyId`], or the error of a key that is not enabled.
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
        let context = wrap_context(&self.vault_id, subject, &master.id, master.current);
        let wrapped = crypto::wrap(master.material(master.current)?, &context, key);
        Ok((master.id, master.current, wrapped))
    }

    /// Opens what [`KeyRing::wrap`] made for `subject`.
    ///
    /// # Errors
    /// [`RingError::NoSuchKeyId`], [`RingError::NoSuchVersion`], [`RingError::VersionRetired`], [`RingError::Forged`],
    /// or the error of a key that is not enabled.
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

    /// [`KeyRing::unwrap`] in any state of the key, to authenticate a header that names it. The
    /// material must be present.
    ///
    /// # Errors
    /// As [`KeyRing::unwrap`], without those about the key's state.
    pub fn unwrap_in_any_state(
        &self,
        id: &MasterKeyId,
        version: KeyVersion,
        subject: &[u8; 16],
        wrapped: &WrappedKey,
    ) -> Result<DataKey, KeyError> {
        let master = self.key_by_id(id)?;
        let context = wrap_context(&self.vault_id, subject, id, version);
        crypto::unwrap(master.material(version)?, &context, wrapped)
            .map_err(|_| RingError::Forged { key: master.name.clone(), version }.into())
    }

    /// Fails where the key with this id may not be used.
    ///
    /// # Errors
    /// [`RingError::NoSuchKeyId`], or the error of a key that is not enabled.
    pub fn require_enabled(&self, id: &MasterKeyId) -> Result<(), KeyError> {
        Ok(self.key_by_id(id)?.require_enabled()?)
    }

    /// Whether every key may be used.
    pub fn all_enabled(&self) -> bool {
        self.keys.iter().all(|key| key.state == KeyState::Enabled)
    }

    /// The summary of the policies of all keys.
    pub fn summary(&self) -> Summary {
        Summary::of(self.keys.iter().map(|key| &key.policy))
    }

    /// The enabled keys whose current version is older at `now` than their rotation period.
    pub fn rotation_due(&self, now: Timestamp) -> Vec<&MasterKey> {
        self.keys
            .iter()
            .filter(|key| key.state == KeyState::Enabled)
            .filter(|key| key.next_rotation().is_some_and(|due| due <= now))
            .collect()
    }

    /// When the next enabled key is due for rotation; `None` for never.
    pub fn next_rotation(&self) -> Option<Timestamp> {
        let enabled = self.keys.iter().filter(|key| key.state == KeyState::Enabled);
        enabled.filter_map(MasterKey::next_rotation).min()
    }

    /// The index of the key called `name_or_id`. Names take precedence over ids.
    pub(super) fn position(&self, name_or_id: &str) -> Result<usize, RingError> {
        let named = self.keys.iter().position(|key| key.name == name_or_id);
        named
            .or_else(|| self.keys.iter().position(|key| key.id.to_string() == name_or_id))
            .ok_or_else(|| RingError::NoSuchKey(name_or_id.to_owned()))
    }
}
