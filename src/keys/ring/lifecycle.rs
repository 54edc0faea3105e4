//! Operations on master keys: creation, rotation, and the transitions between states.

use jiff::Timestamp;

use super::key_ring::KeyRing;
use super::master_key::{MasterKey, after_days};
use super::state::{KeyState, now, whole_seconds};
use super::validity::{MAX_KEYS, MAX_VERSIONS, is_key_name};
use crate::format::{KeyVersion, MasterKeyId};
use crate::keys::policy::Policy;
use crate::keys::{KeyError, RingError};

impl KeyRing {
    /// Adds an enabled key called `name`, at version 1.
    ///
    /// # Errors
    /// [`RingError::BadName`], [`RingError::NameTaken`] (an id counts as taken too),
    /// [`KeyError::Full`] at 1000 keys.
    pub fn create_key(&mut self, name: &str) -> Result<MasterKeyId, KeyError> {
        if !is_key_name(name) {
            return Err(RingError::BadName(name.to_owned()).into());
        }
        if self.position(name).is_ok() {
            return Err(RingError::NameTaken(name.to_owned()).into());
        }
        if self.keys.len() >= MAX_KEYS {
            return Err(KeyError::Full { what: "master keys", limit: MAX_KEYS });
        }
        let key = MasterKey::create(name.to_owned());
        let id = key.id;
        self.keys.push(key);
        Ok(id)
    }

    /// Makes the named key the one of new files whose directory names no other. Existing files keep
    /// their keys.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], or the error of a key that is not enabled.
    pub fn make_default(&mut self, name: &str) -> Result<(), KeyError> {
        let key = self.key(name)?;
        key.require_enabled()?;
        self.default = key.id;
        Ok(())
    }

    /// Adds a version to the named key and makes it the one that wraps.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], the error of a key that is not enabled, [`KeyError::Full`] at 10,000
    /// versions.
    pub fn rotate(&mut self, name: &str) -> Result<KeyVersion, KeyError> {
        let key = self.key_mut(name)?;
        key.require_enabled()?;
        if key.versions.len() >= MAX_VERSIONS {
            return Err(KeyError::Full { what: "versions of a key", limit: MAX_VERSIONS });
        }
        Ok(key.add_version())
    }

    /// Sets the rotation period of the named key in days; 0 for never.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`].
    pub fn set_rotation(&mut self, name: &str, every_days: u32) -> Result<(), KeyError> {
        self.key_mut(name)?.rotate_every_days = every_days;
        Ok(())
    }

    /// The policy of the named key.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`].
    pub fn policy_mut(&mut self, name: &str) -> Result<&mut Policy, KeyError> {
        Ok(&mut self.key_mut(name)?.policy)
    }

    /// Enables the named key. Enabling an enabled key changes nothing.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], [`RingError::PendingDeletion`], [`RingError::Destroyed`].
    pub fn enable(&mut self, name: &str) -> Result<(), KeyError> {
        self.switch(name, KeyState::Enabled)
    }

    /// The same keys, enabled as far as their material is there: to authenticate what a vault keeps of
    /// its age while its master key is disabled or pending deletion. Not for content.
    #[must_use]
    pub fn ignoring_states(&self) -> Self {
        let mut ring = self.clone();
        for key in &mut ring.keys {
            if key.state != KeyState::Destroyed {
                key.state = KeyState::Enabled;
            }
        }
        ring
    }

    /// Refuses all use of the named key until it is enabled. Disabling a disabled key changes
    /// nothing.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], [`RingError::PendingDeletion`], [`RingError::Destroyed`].
    pub fn disable(&mut self, name: &str) -> Result<(), KeyError> {
        self.switch(name, KeyState::Disabled)
    }

    /// Refuses all use of the named key and lets its material be destroyed after `days`, which
    /// are 7 to 30. Returns when.
    ///
    /// # Errors
    /// [`RingError::BadWaitingPeriod`], [`RingError::NoSuchKey`], and [`RingError::PendingDeletion`]
    /// or [`RingError::Destroyed`] when that is what it is.
    pub fn schedule_deletion(&mut self, name: &str, days: u32) -> Result<Timestamp, KeyError> {
        if !(7..=30).contains(&days) {
            return Err(RingError::BadWaitingPeriod(days).into());
        }
        let until = after_days(now(), days);
        self.switch(name, KeyState::PendingDeletion(until))?;
        Ok(until)
    }

    /// Cancels the deletion of a key, which is disabled then.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], [`RingError::NotPendingDeletion`], [`RingError::Destroyed`].
    pub fn cancel_deletion(&mut self, name: &str) -> Result<(), KeyError> {
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::PendingDeletion(_) => key.state = KeyState::Disabled,
            KeyState::Destroyed => return Err(RingError::Destroyed(key.name.clone()).into()),
            KeyState::Enabled | KeyState::Disabled => {
                return Err(RingError::NotPendingDeletion(key.name.clone()).into());
            }
        }
        Ok(())
    }

    /// Destroys the material of the named key, whose deletion was scheduled for a time before `now`.
    /// Only a command calls this, so that a clock that jumps destroys no key.
    ///
    /// # Errors
    /// [`RingError::NoSuchKey`], [`RingError::TooEarly`], [`RingError::NotScheduled`],
    /// [`RingError::Destroyed`].
    pub fn destroy(&mut self, name: &str, now: Timestamp) -> Result<(), KeyError> {
        let at = whole_seconds(now);
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::PendingDeletion(until) if until <= now => {}
            KeyState::PendingDeletion(until) => {
                return Err(RingError::TooEarly { key: key.name.clone(), until }.into());
            }
            KeyState::Destroyed => return Err(RingError::Destroyed(key.name.clone()).into()),
            KeyState::Enabled | KeyState::Disabled => {
                return Err(RingError::NotScheduled(key.name.clone()).into());
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
    /// [`RingError::NoSuchKey`], [`RingError::NoSuchVersion`], [`RingError::CurrentVersion`],
    /// [`RingError::VersionRetired`] when it is retired already, [`RingError::PendingDeletion`] and
    /// [`RingError::Destroyed`].
    pub fn retire(&mut self, name: &str, number: KeyVersion) -> Result<(), KeyError> {
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::Enabled | KeyState::Disabled => {}
            KeyState::PendingDeletion(_) | KeyState::Destroyed => return Ok(key.require_enabled()?),
        }
        let (name, current) = (key.name.clone(), key.current);
        let version = key.versions.iter_mut().find(|version| version.number == number);
        let Some(version) = version else {
            return Err(RingError::NoSuchVersion { key: name, version: number }.into());
        };
        if number == current {
            return Err(RingError::CurrentVersion { key: name, version: number }.into());
        }
        if version.material.take().is_none() {
            return Err(RingError::VersionRetired { key: name, version: number }.into());
        }
        version.retired = Some(now());
        Ok(())
    }

    /// Changes an enabled or disabled key to `state`.
    fn switch(&mut self, name: &str, state: KeyState) -> Result<(), KeyError> {
        let key = self.key_mut(name)?;
        match key.state {
            KeyState::Enabled | KeyState::Disabled => key.state = state,
            KeyState::PendingDeletion(_) | KeyState::Destroyed => return Ok(key.require_enabled()?),
        }
        Ok(())
    }

    fn key_mut(&mut self, name: &str) -> Result<&mut MasterKey, KeyError> {
        let index = self.position(name)?;
        Ok(&mut self.keys[index])
    }
}
