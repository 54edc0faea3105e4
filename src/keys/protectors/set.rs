//! The protectors of one key file together: opened with one of them, changed, given the next key.

use std::path::Path;

use super::protector::{NewProtector, ProtectorDescription};
use super::slot::{FileKey, Holder, MAX_PROTECTORS, Slot};
use super::unlock::{Held, Unlock};
use crate::crypto::Secret;
use crate::format::VolumeId;
use crate::keys::KeyError;

/// Who can open a key file. Changes take effect when the file is written.
#[derive(Debug)]
pub struct Protectors {
    vault: VolumeId,
    slots: Vec<Slot>,
    key: FileKey,
    holder: Option<Holder>,
    shut_someone_out: bool,
}

impl Protectors {
    /// Those of a new file; a raw one when `new` is empty.
    pub(in crate::keys) fn create(vault: VolumeId, new: &[NewProtector]) -> Result<Self, KeyError> {
        let key = FileKey { kek: Secret::random(), anchor: Secret::random() };
        let slots = Vec::new();
        let mut protectors = Self { vault, slots, key, holder: None, shut_someone_out: false };
        for new in if new.is_empty() { &[NewProtector::Raw] } else { new } {
            protectors.push(new)?;
        }
        Ok(protectors)
    }

    /// Opens the file's key: by itself where a protector is raw, else with what was held, else
    /// with a passphrase.
    pub(in crate::keys) fn open(
        path: &Path,
        vault: VolumeId,
        slots: Vec<Slot>,
        unlock: &dyn Unlock,
    ) -> Result<(Self, FileKey), KeyError> {
        let raw = slots.iter().find_map(Slot::raw_key);
        if raw.is_some() && unlock.is_given() {
            return Err(KeyError::Unprotected(path.to_owned()));
        }
        let opened = match raw {
            Some(key) => Some((key, None)),
            None => open_sealed(path, &vault, &slots, unlock)?,
        };
        let (key, holder) = opened.ok_or_else(|| match unlock.held() {
            Some(_) => KeyError::ProtectorGone(path.to_owned()),
            None => KeyError::WrongPassphrase(path.to_owned()),
        })?;
        let protectors = Self { vault, slots, key: key.clone(), holder, shut_someone_out: false };
        Ok((protectors, key))
    }

    /// The protectors in the order they were made.
    pub fn list(&self) -> Vec<ProtectorDescription> {
        self.slots.iter().map(Slot::describe).collect()
    }

    /// Adds a protector and returns its number. A passphrase takes the place of a raw protector,
    /// which would let everyone open the file without it, unless `keep_raw`.
    ///
    /// # Errors
    /// [`KeyError::Full`] at 16 protectors, [`KeyError::BadCost`], [`KeyError::NoMemory`].
    pub fn add(&mut self, new: &NewProtector, keep_raw: bool) -> Result<u32, KeyError> {
        let replaces_raw = matches!(new, NewProtector::Passphrase { .. }) && !keep_raw;
        self.exchange(|slot| replaces_raw && slot.is_raw(), new)
    }

    /// Removes a protector: what it gave opens no later state of the file.
    ///
    /// # Errors
    /// [`KeyError::NoSuchProtector`], [`KeyError::LastProtector`].
    pub fn remove(&mut self, id: u32) -> Result<(), KeyError> {
        self.require(id)?;
        if self.slots.len() == 1 {
            return Err(KeyError::LastProtector(id));
        }
        self.drop_slots(|slot| slot.id() == id);
        Ok(())
    }

    /// Puts a protector in the place of another, as when a passphrase is changed, and returns its
    /// number.
    ///
    /// # Errors
    /// [`KeyError::NoSuchProtector`], [`KeyError::BadCost`], [`KeyError::NoMemory`].
    pub fn change(&mut self, id: u32, new: &NewProtector) -> Result<u32, KeyError> {
        self.require(id)?;
        self.exchange(|slot| slot.id() == id, new)
    }

    /// What opens the file again.
    pub(in crate::keys) fn held(&self) -> Held {
        Held(self.holder.clone())
    }

    /// Whether a protector was removed since the file was opened.
    pub(in crate::keys) fn shut_someone_out(&self) -> bool {
        self.shut_someone_out
    }

    /// Makes the key of the next state and hands it to every protector.
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

    /// Removes the protectors that are `old` and adds a new one, or changes nothing.
    fn exchange(
        &mut self,
        old: impl Fn(&Slot) -> bool,
        new: &NewProtector,
    ) -> Result<u32, KeyError> {
        let (slots, anchor) = (self.slots.clone(), self.key.anchor.clone());
        let (holder, shut) = (self.holder.clone(), self.shut_someone_out);
        // Numbered before any goes, so that a number means one protector.
        let id = self.next_id();
        self.drop_slots(old);
        let pushed = self.push_as(id, new);
        if pushed.is_err() {
            (self.slots, self.key.anchor) = (slots, anchor);
            (self.holder, self.shut_someone_out) = (holder, shut);
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

    /// Removes protectors, and with the last passphrase the anchor that it knew. What opened the
    /// file is forgotten when it is among them.
    fn drop_slots(&mut self, old: impl Fn(&Slot) -> bool) {
        let before = self.slots.len();
        self.slots.retain(|slot| !old(slot));
        self.shut_someone_out |= self.slots.len() < before;
        if self.slots.iter().all(Slot::is_raw) {
            self.key.anchor = Secret::random();
        }
        let slots = &self.slots;
        self.holder = self.holder.take().filter(|holder| slots.iter().any(|s| s.is_of(holder)));
    }

    fn next_id(&self) -> u32 {
        self.slots.iter().map(Slot::id).max().map_or(1, |id| id.saturating_add(1))
    }

    /// Whether there is a protector of this number.
    ///
    /// # Errors
    /// [`KeyError::NoSuchProtector`].
    pub fn require(&self, id: u32) -> Result<(), KeyError> {
        let known = self.slots.iter().any(|slot| slot.id() == id);
        known.then_some(()).ok_or(KeyError::NoSuchProtector(id))
    }
}

type Opened = Option<(FileKey, Option<Holder>)>;

fn open_sealed(
    path: &Path,
    vault: &VolumeId,
    slots: &[Slot],
    unlock: &dyn Unlock,
) -> Result<Opened, KeyError> {
    let damaged = |_| KeyError::Damaged(path.to_owned());
    let open = |slot: &Slot, holder: Holder| {
        let key = slot.open(vault, &holder).map_err(damaged)?;
        Ok(Some((key, Some(holder))))
    };
    if let Some(held) = unlock.held() {
        let Some(holder) = &held.0 else { return Ok(None) };
        let slot = slots.iter().find(|slot| slot.is_of(holder));
        return slot.map_or(Ok(None), |slot| open(slot, holder.clone()));
    }
    unlock.most_cost().check(slots.iter().filter_map(Slot::cost))?;
    let passphrase = unlock.passphrase()?;
    for slot in slots {
        if let Some(holder) = slot.holder(vault, &passphrase)? {
            return open(slot, holder);
        }
    }
    Ok(None)
}
