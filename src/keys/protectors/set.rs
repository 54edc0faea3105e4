//! The protectors of one key file: opening one, changing them, and handing them the next key.

use std::path::Path;

use super::protector::{NewProtector, ProtectorDescription, RawProtectors};
use super::slot::{FileKey, MAX_PROTECTORS, ProtectorSecrets, Slot};
use super::unlock::{HeldProtector, Unlock};
use crate::crypto::Secret;
use crate::format::VaultId;
use crate::keys::{KeyError, KeyFileError, ProtectorError};

/// The protectors of a key file. Changes take effect when the file is written.
#[derive(Debug)]
pub struct Protectors {
    vault: VaultId,
    slots: Vec<Slot>,
    key: FileKey,
    holder: Option<ProtectorSecrets>,
    removed_any: bool,
}

impl Protectors {
    /// The protectors of a new file; a raw one when `new` is empty.
    pub(in crate::keys) fn create(vault: VaultId, new: &[NewProtector]) -> Result<Self, KeyError> {
        let key = FileKey { kek: Secret::random(), anchor: Secret::random() };
        let slots = Vec::new();
        let mut protectors = Self { vault, slots, key, holder: None, removed_any: false };
        for new in if new.is_empty() { &[NewProtector::Raw] } else { new } {
            protectors.push(new)?;
        }
        Ok(protectors)
    }

    /// Opens the file's key: from a raw protector, else from a held one, else with a passphrase.
    pub(in crate::keys) fn open(
        path: &Path,
        vault: VaultId,
        slots: Vec<Slot>,
        unlock: &dyn Unlock,
    ) -> Result<(Self, FileKey), KeyError> {
        let raw = slots.iter().find_map(Slot::raw_key);
        if raw.is_some() && unlock.is_given() {
            return Err(ProtectorError::Unprotected(path.to_owned()).into());
        }
        let opened = match raw {
            Some(key) => Some((key, None)),
            None => open_sealed(path, &vault, &slots, unlock)?,
        };
        let (key, holder) = opened.ok_or_else(|| match unlock.held() {
            Some(_) => ProtectorError::ProtectorGone(path.to_owned()),
            None => ProtectorError::WrongPassphrase(path.to_owned()),
        })?;
        let protectors = Self { vault, slots, key: key.clone(), holder, removed_any: false };
        Ok((protectors, key))
    }

    /// The protectors, in the order of their creation.
    pub fn list(&self) -> Vec<ProtectorDescription> {
        self.slots.iter().map(Slot::describe).collect()
    }

    /// Adds a protector and returns its number. `raw` counts where that is a passphrase.
    ///
    /// # Errors
    /// [`KeyError::Full`] at 16 protectors, [`ProtectorError::BadCost`], [`ProtectorError::NoMemory`].
    pub fn add(&mut self, new: &NewProtector, raw: RawProtectors) -> Result<u32, KeyError> {
        let is_passphrase = matches!(new, NewProtector::Passphrase { .. });
        let replaces_raw = is_passphrase && raw == RawProtectors::Replace;
        self.exchange(|slot| replaces_raw && slot.is_raw(), new)
    }

    /// Removes a protector. Its secrets open no later state of the file.
    ///
    /// # Errors
    /// [`ProtectorError::NoSuchProtector`], [`ProtectorError::LastProtector`].
    pub fn remove(&mut self, id: u32) -> Result<(), KeyError> {
        self.require(id)?;
        if self.slots.len() == 1 {
            return Err(ProtectorError::LastProtector(id).into());
        }
        self.drop_slots(|slot| slot.id() == id);
        Ok(())
    }

    /// Replaces a protector, for instance to change a passphrase, and returns the new number.
    ///
    /// # Errors
    /// [`ProtectorError::NoSuchProtector`], [`ProtectorError::BadCost`], [`ProtectorError::NoMemory`].
    pub fn change(&mut self, id: u32, new: &NewProtector) -> Result<u32, KeyError> {
        self.require(id)?;
        self.exchange(|slot| slot.id() == id, new)
    }

    /// The protector that opened the file.
    pub(in crate::keys) fn held(&self) -> HeldProtector {
        HeldProtector(self.holder.clone())
    }

    /// Whether a protector was removed since the file was opened.
    pub(in crate::keys) fn removed_any(&self) -> bool {
        self.removed_any
    }

    /// Creates the key of the next state and hands it to every protector.
    pub(in crate::keys) fn rekey(&mut self) -> FileKey {
        self.key.kek = Secret::random();
        self.slots.iter_mut().for_each(|slot| slot.rekey(&self.vault, &self.key));
        self.key.clone()
    }

    #[cfg(test)]
    pub(super) fn file_key(&self) -> &FileKey {
        &self.key
    }

    pub(in crate::keys) fn slots(&self) -> Vec<Slot> {
        self.slots.clone()
    }

    /// Removes the protectors that are `old` and adds a new one. On failure nothing is changed.
    fn exchange(
        &mut self,
        old: impl Fn(&Slot) -> bool,
        new: &NewProtector,
    ) -> Result<u32, KeyError> {
        let (slots, anchor) = (self.slots.clone(), self.key.anchor.clone());
        let (holder, shut) = (self.holder.clone(), self.removed_any);
        // Numbered before any is removed, so that the number is a new one.
        let id = self.next_id();
        self.drop_slots(old);
        let pushed = self.push_as(id, new);
        if pushed.is_err() {
            (self.slots, self.key.anchor) = (slots, anchor);
            (self.holder, self.removed_any) = (holder, shut);
        }
        pushed
    }

    fn push(&mut self, new: &NewProtector) -> Result<u32, KeyError> {
        self.push_as(self.next_id(), new)
    }

    fn push_as(&mut self, id: u32, new: &NewProtector) -> Result<u32, KeyError> {
        if self.slots.len() >= MAX_PROTECTORS {
            return Err(KeyError::Full { what: "protectors", limit: MAX_PROTECTORS });
        }
        let (slot, holder) = Slot::create(&self.vault, id, new, &self.key)?;
        self.slots.push(slot);
        self.holder = self.holder.take().or(holder);
        Ok(id)
    }

    /// Removes protectors. Without a passphrase left, the anchor that the last one knew is replaced. The
    /// protector that opened the file is forgotten when it is among them.
    fn drop_slots(&mut self, old: impl Fn(&Slot) -> bool) {
        let before = self.slots.len();
        self.slots.retain(|slot| !old(slot));
        self.removed_any |= self.slots.len() < before;
        if self.slots.iter().all(Slot::is_raw) {
            self.key.anchor = Secret::random();
        }
        let slots = &self.slots;
        self.holder = self.holder.take().filter(|holder| slots.iter().any(|s| s.is_of(holder)));
    }

    fn next_id(&self) -> u32 {
        self.slots.iter().map(Slot::id).max().map_or(1, |id| id.saturating_add(1))
    }

    /// Fails where there is no protector of this number.
    ///
    /// # Errors
    /// [`ProtectorError::NoSuchProtector`].
    pub fn require(&self, id: u32) -> Result<(), KeyError> {
        let known = self.slots.iter().any(|slot| slot.id() == id);
        known.then_some(()).ok_or_else(|| ProtectorError::NoSuchProtector(id).into())
    }
}

type Opened = Option<(FileKey, Option<ProtectorSecrets>)>;

fn open_sealed(
    path: &Path,
    vault: &VaultId,
    slots: &[Slot],
    unlock: &dyn Unlock,
) -> Result<Opened, KeyError> {
    let damaged = |_| KeyFileError::Damaged(path.to_owned());
    let open = |slot: &Slot, holder: ProtectorSecrets| {
        let key = slot.open(vault, &holder).map_err(damaged)?;
        Ok(Some((key, Some(holder))))
    };
    if let Some(held) = unlock.held() {
        let Some(holder) = &held.0 else { return Ok(None) };
        let slot = slots.iter().find(|slot| slot.is_of(holder));
        return slot.map_or(Ok(None), |slot| open(slot, holder.clone()));
    }
    unlock.cost_limit().check(slots.iter().filter_map(Slot::cost))?;
    let passphrase = unlock.passphrase()?;
    for slot in slots {
        if let Some(holder) = slot.holder(vault, &passphrase)? {
            return open(slot, holder);
        }
    }
    Ok(None)
}
