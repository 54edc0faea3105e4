//! What an operator does to a master key: the transitions between its states.

use jiff::Timestamp;

use super::key_ring::{KeyRing, MasterKey, after_days};
use super::state::{KeyState, now, whole_seconds};
use super::validity::{MAX_KEYS, MAX_VERSIONS, is_key_name};
use crate::format::{KeyVersion, MasterKeyId};
use crate::keys::KeyError;
use crate::keys::policy::Policy;

impl KeyRing {
    /// Adds an enabled key called `name`, at version 1.
    ///
    /// # Errors
    /// [`KeyError::BadName`], [`KeyError::NameTaken`] (an id counts as taken too),
    /// [`KeyError::Full`] at 1000 keys.
    pub fn create_key(&mut self, name: &str) -> Result<MasterKeyId, KeyError> {
        if !is_key_name(name) {
            return Err(KeyError::BadName(name.to_owned()));
        }
        if self.position(name).is_ok() {
            return Err(KeyError::NameTaken(name.to_owned()));
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(KeyError::Full { what: "master keys", limit: MAX_KEYS });
        }
        let key = MasterKey::create(name.to_owned());
        let id = key.id;
        self.keys.push(key);
        Ok(id)
    }

    /// Makes the named key the one for files whose directory names no other. Files that exist
    /// keep theirs.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], or its state when it is not enabled.
    pub fn make_default(&mut self, name: &str) -> Result<(), KeyError> {
        let key = self.key(name)?;
        key.require_enabled()?;
        self.default = key.id;
        Ok(())
    }

    /// Adds a version to the named key and makes it the one that wraps.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], the key's state when it is not enabled, [`KeyError::Full`] at
    /// 10,000 versions.
    pub fn rotate(&mut self, name: &str) -> Result<KeyVersion, KeyError> {
        let key = self.key_mut(name)?;
        key.require_enabled()?;
        if key.versions.len() >= MAX_VERSIONS {
            return Err(KeyError::Full { what: "versions of a key", limit: MAX_VERSIONS });
        }
        Ok(key.add_version())
    }

    /// Sets after how many days the named key is due for rotation; 0 for never.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`].
    pub fn set_rotation(&mut self, name: &str, every_days: u32) -> Result<(), KeyError> {
        self.key_mut(name)?.rotate_every_days = every_days;
        Ok(())
    }

    /// The policy of the named key, to be changed.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`].
    pub fn policy_mut(&mut self, name: &str) -> Result<&mut Policy, KeyError> {
        Ok(&mut self.key_mut(name)?.policy)
    }

    /// Lets the named key be used again. Enabling an enabled key changes nothing.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], [`KeyError::PendingDeletion`], [`KeyError::Destroyed`].
    pub fn enable(&mut self, name: &str) -> Result<(), KeyError> {
        self.switch(name, KeyState::Enabled)
    }

    /// Refuses all use of the named key until it is enabled. Disabling a disabled key changes
    /// nothing.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], [`KeyError::PendingDeletion`], [`KeyError::Destroyed`].
    pub fn disable(&mut self, name: &str) -> Result<(), KeyError> {
        self.switch(name, KeyState::Disabled)
    }

    /// Refuses all use of the named key and lets its material be destroyed after `days`, which
    /// are 7 to 30. Returns when.
    ///
    /// # Errors
    /// [`KeyError::BadWaitingPeriod`], [`KeyError::NoSuchKey`], and [`KeyError::PendingDeletion`]
    /// or [`KeyError::Destroyed`] when that is what it is.
    pub fn schedule_deletion(&mut self, name: &str, days: u32) -> Result<Timestamp, KeyError> {
        if !(7..=30).contains(&days) {
            return Err(KeyError::BadWaitingPeriod(days));
        }
        let until = after_days(now(), days);
        self.switch(name, KeyState::PendingDeletion(until))?;
        Ok(until)
    }

    /// Keeps a key that was to be deleted: it is disabled then.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], [`KeyError::NotPendingDeletion`], [`KeyError::Destroyed`].
    pub fn cancel_deletion(&mut self, name: &str) -> Result<(), KeyError> {
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::PendingDeletion(_) => key.state = KeyState::Disabled,
            KeyState::Destroyed => return Err(KeyError::Destroyed(key.name.clone())),
            KeyState::Enabled | KeyState::Disabled => {
                return Err(KeyError::NotPendingDeletion(key.name.clone()));
            }
        }
        Ok(())
    }

    /// Destroys the material of the named key, whose deletion was scheduled for a time that is past at
    /// `now`. Nothing but a command does: a clock that jumped destroys no key.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], [`KeyError::TooEarly`], [`KeyError::NotScheduled`],
    /// [`KeyError::Destroyed`].
    pub fn destroy(&mut self, name: &str, now: Timestamp) -> Result<(), KeyError> {
        let at = whole_seconds(now);
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::PendingDeletion(until) if until <= now => {}
            KeyState::PendingDeletion(until) => {
                return Err(KeyError::TooEarly { key: key.name.clone(), until });
            }
            KeyState::Destroyed => return Err(KeyError::Destroyed(key.name.clone())),
            KeyState::Enabled | KeyState::Disabled => {
                return Err(KeyError::NotScheduled(key.name.clone()));
            }
        }
        key.state = KeyState::Destroyed;
        for version in &mut key.versions {
            version.retired.get_or_insert(at);
            version.material = None;
        }
        Ok(())
    }

    /// Removes a version's material for good. The caller has shown that no file refers to it.
    ///
    /// # Errors
    /// [`KeyError::NoSuchKey`], [`KeyError::NoSuchVersion`], [`KeyError::CurrentVersion`],
    /// [`KeyError::VersionRetired`] when it is retired already, [`KeyError::PendingDeletion`] and
    /// [`KeyError::Destroyed`].
    pub fn retire(&mut self, name: &str, number: KeyVersion) -> Result<(), KeyError> {
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::Enabled | KeyState::Disabled => {}
            KeyState::PendingDeletion(_) | KeyState::Destroyed => return key.require_enabled(),
        }
        let (name, current) = (key.name.clone(), key.current);
        let version = key.versions.iter_mut().find(|version| version.number == number);
        let Some(version) = version else {
            return Err(KeyError::NoSuchVersion { key: name, version: number });
        };
        if number == current {
            return Err(KeyError::CurrentVersion { key: name, version: number });
        }
        if version.material.take().is_none() {
            return Err(KeyError::VersionRetired { key: name, version: number });
        }
        version.retired = Some(now());
        Ok(())
    }

    /// From enabled or disabled to `state`.
    fn switch(&mut self, name: &str, state: KeyState) -> Result<(), KeyError> {
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::Enabled | KeyState::Disabled => key.state = state,
            KeyState::PendingDeletion(_) | KeyState::Destroyed => return key.require_enabled(),
        }
        Ok(())
    }

    fn key_mut(&mut self, name: &str) -> Result<&mut MasterKey, KeyError> {
        let index = self.position(name)?;
        Ok(&mut self.keys[index])
    }
}
