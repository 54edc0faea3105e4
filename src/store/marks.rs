//! What the record of mounts says of what lies outside the vault: by it, what was put back to an
//! older state is known.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::RootAttrs;
use crate::crypto::MacKey;
use crate::format::{Epoch, RecordId};
use crate::keys::KeyFileMark;

/// Machines of which a vault remembers what they keep of it; the longest unheard of goes first.
const MOST_RECORDS: usize = 8;

/// What a vault knew of its key file, its trail and the machines' records when a mount began or
/// ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Which state the key file was of.
    #[serde(flatten)]
    pub key_file: KeyFileMark,
    /// The trail, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<TrailMark>,
    /// What the mount's root showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootAttrs>,
    /// What each machine's record is known to have been told of, durably.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<Told>,
}

/// What the vault knows of one machine's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    record: RecordId,
    /// The mount that it was told of.
    epoch: Epoch,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    machine: Option<MachineTag>,
}

/// Tells the records of one machine and user from those of others, to who has the vault's keys alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MachineTag(String);

impl MachineTag {
    /// Bytes of the MAC that are kept.
    const LEN: usize = 16;

    /// Of the machine with this id, as far as it keeps records in `place`; `key` is that of the records,
    /// which are JSON and begin with a brace.
    pub fn of(machine: &str, place: &Path, key: &MacKey) -> Self {
        let place: PathBuf = place.components().collect();
        let parts = [b"atrest v1 machine", machine.as_bytes(), place.as_os_str().as_bytes()];
        Self(BASE64_STANDARD.encode(&key.mac(&parts.join(&0))[..Self::LEN]))
    }
}

/// Where a trail was, and how far it had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailMark {
    /// The number of its last line.
    pub last: u64,
    /// The link of that line, in base64.
    pub link: String,
    /// Its directory. Bytes that are not UTF-8 are U+FFFD.
    pub directory: String,
}

impl Marks {
    /// Those of a new vault.
    pub fn new(root: RootAttrs) -> Self {
        Self { root: Some(root), ..Self::default() }
    }

    /// Which mount the record is known to have been told of.
    pub fn told(&self, record: &RecordId) -> Epoch {
        let known = self.records.iter().find(|known| known.record == *record);
        known.map_or(Epoch(0), |known| known.epoch)
    }

    /// The record of that machine which was told last.
    pub fn last_record_of(&self, machine: &MachineTag) -> Option<RecordId> {
        let known = self.records.iter().rfind(|known| known.machine.as_ref() == Some(machine));
        known.map(|known| known.record)
    }

    /// The record of that machine knows of that mount.
    pub fn note_told(&mut self, record: RecordId, epoch: Epoch, machine: Option<MachineTag>) {
        self.records.retain(|known| known.record != record);
        if self.records.len() >= MOST_RECORDS {
            self.records.remove(0);
        }
        self.records.push(Told { record, epoch, machine });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Secret, VaultKeys};

    fn key() -> MacKey {
        VaultKeys::derive(&Secret::from_bytes(&[7; 32]), &[7; 16]).freshness
    }

    #[test]
    fn the_machine_longest_unheard_of_is_forgotten() {
        let key = key();
        let tag = |number: usize| MachineTag::of(&number.to_string(), Path::new("/state"), &key);
        let records: Vec<_> = (0..=MOST_RECORDS as u64).map(|_| RecordId::random()).collect();
        let mut marks = Marks::default();
        for (number, record) in records.iter().enumerate() {
            marks.note_told(*record, Epoch(number as u64 + 1), Some(tag(number)));
            marks.note_told(records[0], Epoch(50), Some(tag(0)));
        }
        for (number, epoch) in [(0, 50), (1, 0), (2, 3)] {
            assert_eq!(marks.told(&records[number]), Epoch(epoch));
            let known = (epoch > 0).then_some(records[number]);
            assert_eq!(marks.last_record_of(&tag(number)), known);
        }
    }

    #[test]
    fn another_state_directory_is_another_machine() {
        let key = key();
        let tag = |machine, place| MachineTag::of(machine, Path::new(place), &key);
        assert_eq!(tag("a", "/state"), tag("a", "//state/./"));
        assert_ne!(tag("a", "/state"), tag("b", "/state"));
        assert_ne!(tag("a", "/state"), tag("a", "/other"));
    }
}
