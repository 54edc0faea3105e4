//! What the record of mounts says of what lies outside the vault: by it, what was put back to an
//! older state is known.

use serde::{Deserialize, Serialize};

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
    /// Which mount each machine's record is known to have been told of, durably.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<(RecordId, Epoch)>,
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
    /// Which mount the record is known to have been told of.
    pub fn told(&self, record: &RecordId) -> Epoch {
        let known = self.records.iter().find(|(known, _)| known == record);
        known.map_or(Epoch(0), |(_, epoch)| *epoch)
    }

    /// The record knows of that mount.
    pub fn note_told(&mut self, record: RecordId, epoch: Epoch) {
        self.records.retain(|(known, _)| *known != record);
        if self.records.len() >= MOST_RECORDS {
            self.records.remove(0);
        }
        self.records.push((record, epoch));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_longest_unheard_of_is_forgotten() {
        let records: Vec<_> = (0..=MOST_RECORDS as u64).map(|_| RecordId::random()).collect();
        let mut marks = Marks::default();
        for (number, record) in records.iter().enumerate() {
            marks.note_told(*record, Epoch(number as u64 + 1));
            marks.note_told(records[0], Epoch(50));
        }
        assert_eq!(marks.told(&records[0]), Epoch(50));
        assert_eq!(marks.told(&records[1]), Epoch(0));
        assert_eq!(marks.told(&records[2]), Epoch(3));
    }
}
