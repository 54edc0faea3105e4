//! What a mount would be refused for, told without opening the vault, which somebody may have mounted.
//! Nothing is written.

use std::path::Path;

use super::description::open_own_files;
use super::findings::{
    Claim, Findings, key_file_set_back, lost_record, mounts_set_back, trail_set_back, usable,
    without_record,
};
use super::freshness::{Freshness, default_place, look_up};
use super::marks::{MachineTag, Marks, TrailMark};
use super::records::{Record, file_of, read};
use super::vault_age::keys_of;
use super::watched::trail_mark;
use super::{Access, CheckpointFile, EpochRecord, Vault, VaultError, state};
use crate::crypto::VaultKeys;
use crate::format::{Epoch, VaultId};
use crate::keys::{KeyFileMark, KeyRing};

/// What a vault and this machine say at one moment.
struct Seen {
    known: Option<Record>,
    /// Why the machine's records can't be used.
    unusable: Option<String>,
    epochs: EpochRecord,
    marks: Marks,
    trail: Option<(TrailMark, Epoch)>,
}

impl Vault {
    /// What speaks against the trail of the vault in `dir`: its record of mounts, and what this machine
    /// keeps of it. `machine` is the id of the machine, where a missing record is to be told.
    pub fn trail_doubts(dir: &Path, ring: &KeyRing, machine: Option<&str>) -> Vec<String> {
        let look = || {
            let (vault, keys) = keys_of(&open_own_files(dir).ok()?, ring).ok()?;
            Some(Seen::now(dir, ring, (vault, &keys), machine)?.trail_doubts())
        };
        match look() {
            // A mount may have begun and ended between two of the files.
            Some(found) if !found.is_empty() => look().unwrap_or_default(),
            Some(_) | None => Vec::new(),
        }
    }

    /// Why the key file of the vault in `dir`, which is of the state `now`, is an older one than the vault
    /// or this machine knows.
    pub fn key_file_doubt(dir: &Path, ring: &KeyRing, now: &KeyFileMark) -> Option<String> {
        let (vault, keys) = match keys_of(&open_own_files(dir).ok()?, ring) {
            Ok(found) => found,
            Err(error @ VaultError::KeysApart(_)) => return Some(error.to_string()),
            Err(_) => return None,
        };
        let seen = Seen::now(dir, ring, (vault, &keys), None)?;
        let machine = seen.known.as_ref().map(|record| &record.key_file);
        key_file_set_back(&seen.marks, machine, now).into_iter().next()
    }
}

impl Seen {
    /// `None` where the vault's record of mounts can't be authenticated.
    fn now(
        dir: &Path,
        ring: &KeyRing,
        (vault, keys): (VaultId, &VaultKeys),
        machine: Option<&str>,
    ) -> Option<Self> {
        // In this order: the machine is told after the vault, and the trail's record runs ahead.
        let place = default_place();
        let (records, mut unusable) = match &place {
            Some(place) => {
                let file = file_of(place, &vault);
                usable(read(place, &vault, &keys.freshness), &file)
            }
            None => (Vec::new(), None),
        };
        let (epochs, marks) = state::read(&open_own_files(dir).ok()?, &keys.state).ok()?;
        let trail = trail_mark(&CheckpointFile::of(dir, Access::ReadOnly).ok()?, ring);
        if let (Some(place), Some(machine), None) = (&place, machine, &unusable) {
            let machine = MachineTag::of(machine, place, &keys.freshness);
            unusable = lost_record(&marks, Some(&machine), &records)
                .map(|(_, told)| without_record(&file_of(place, &vault), &records, told));
        }
        let here = std::fs::canonicalize(dir).ok()?;
        let is = rustix::fs::stat(&here).ok()?;
        let of_trail = trail.as_ref().map(|(mark, _)| mark.directory.as_str());
        let (known, seen) = look_up(&records, &vault, (&here.to_string_lossy(), &is), of_trail);
        // The trail of a copy is the original's.
        let known = known.filter(|_| !matches!(seen, Freshness::Copy(_)));
        Some(Self { known, unusable, epochs, marks, trail })
    }

    fn trail_doubts(self) -> Vec<String> {
        let mut found = Findings::default();
        found.unproven.extend(self.unusable);
        let trail = self.trail.as_ref().map(|(mark, _)| mark);
        if let Some(last) = &self.known {
            let trail = self.trail.as_ref().map(|(mark, epoch)| (mark, *epoch));
            let (epochs, marks) = (Some(&self.epochs), &self.marks);
            mounts_set_back(last, Claim { epochs, marks, trail, root: None }, &mut found);
        }
        // A missing record of the trail is a finding by itself.
        if trail.is_some() {
            let machine = self.known.as_ref().and_then(|last| last.trail.as_ref());
            let vault = self.marks.trail.as_ref().filter(|vault| Some(*vault) != machine);
            found.set_back(trail_set_back(vault, trail));
            found.set_back(trail_set_back(machine, trail));
        }
        [found.set_back, found.unproven].concat()
    }
}
