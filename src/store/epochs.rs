//! The vault's record of its mounts: which epoch this is, and which ended in a crash.

use serde::{Deserialize, Serialize};

use crate::format::{Epoch, EpochSet};

/// All mounts so far. An epoch that is not in `crashed` ended cleanly, or its files were recovered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The newest writable mount.
    pub current: Epoch,
    /// Whether it runs, or died without a clean end.
    pub open: bool,
    /// Epochs that crashed and whose files were not all recovered since.
    crashed: EpochSet,
    /// The newest mount began, and has not served a request yet, as far as is known.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unserved: bool,
    /// Mounts of which the trail need have no line: they served no request, or kept no trail by their
    /// options.
    #[serde(default, skip_serializing_if = "EpochSet::is_empty")]
    without_line: EpochSet,
}

/// Ranges of mounts without a line that are kept apart at most.
const MAX_RANGES: usize = 64;

fn is_false(is: &bool) -> bool {
    !is
}

impl EpochRecord {
    /// In the place of one that was lost, where `newest` is the last mount that is known of and may
    /// not have ended.
    pub fn in_place_of_lost(newest: Epoch) -> Self {
        Self { current: newest, open: true, ..Self::default() }
    }

    /// The record after a writable mount begins: one that was still open has crashed.
    pub fn begin(mut self) -> Self {
        if self.open {
            self.crashed.push(self.current);
        }
        let without_line = self.without_line();
        let current = Epoch(self.current.0 + 1);
        Self { current, open: true, crashed: self.crashed, unserved: true, without_line }
    }

    /// The record once the mount serves requests; `has_line` tells whether the trail must have a line
    /// of it.
    pub fn serve(&self, has_line: bool) -> Self {
        let mut record = Self { unserved: false, ..self.clone() };
        if !has_line {
            record.without_line.push(record.current);
            record.without_line.limit(MAX_RANGES);
        }
        record
    }

    /// Mounts of which the trail need have no line.
    pub fn without_line(&self) -> EpochSet {
        let mut without = self.without_line.clone();
        if self.unserved {
            without.push(self.current);
            without.limit(MAX_RANGES);
        }
        without
    }

    /// Whether the newest mount has not come so far that it is known outside of the vault.
    pub fn is_beginning(&self) -> bool {
        self.open && self.unserved
    }

    /// [`EpochRecord::begin`] after the mount `newest`, of which another record knows: a number that
    /// was used is not used again.
    pub fn begin_after(self, newest: Epoch) -> Self {
        let begun = self.begin();
        Self { current: begun.current.max(Epoch(newest.0 + 1)), ..begun }
    }

    /// The record as a read-only mount sees it: one that is still open has crashed.
    pub fn observe(mut self) -> Self {
        if self.open {
            self.crashed.push(self.current);
        }
        self
    }

    /// The record after the current epoch ended cleanly.
    pub fn end(&self) -> Self {
        Self { open: false, ..self.clone() }
    }

    /// The record after all files were recovered, durably: no crash excuses anything any more.
    pub fn recovered(self) -> Self {
        Self { crashed: EpochSet::default(), ..self }
    }

    /// Whether `epoch` crashed.
    pub fn crashed(&self, epoch: Epoch) -> bool {
        self.crashed.contains(epoch)
    }

    /// Whether any epoch after `epoch` crashed.
    pub fn crashed_after(&self, epoch: Epoch) -> bool {
        self.crashed.last().is_some_and(|last| last > epoch)
    }

    /// Whether any epoch crashed.
    pub fn any_crashed(&self) -> bool {
        !self.crashed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_that_did_not_end_has_crashed() {
        let first = EpochRecord::default().begin();
        assert_eq!((first.current, first.open), (Epoch(1), true));
        let second = first.end().begin();
        assert!(!second.any_crashed());
        let third = second.begin();
        assert!(third.crashed(Epoch(2)) && !third.crashed(Epoch(1)) && !third.crashed(Epoch(3)));
        assert!(third.crashed_after(Epoch(1)) && !third.crashed_after(Epoch(2)));
        assert!(!third.end().recovered().begin().any_crashed());
        assert!(third.end().recovered().begin().begin().crashed(Epoch(4)));
        let fifth = third.begin().end().begin().end();
        assert_eq!(
            fifth.crashed.outside(Epoch(1), Epoch(5)),
            [(Epoch(1), Epoch(1)), (Epoch(4), Epoch(5))]
        );
        assert!(!fifth.crashed(Epoch(4)) && !fifth.crashed(Epoch(5)));
    }

    #[test]
    fn a_mount_that_served_needs_a_line() {
        let begun = EpochRecord::default().begin();
        assert!(begun.is_beginning() && begun.without_line().contains(Epoch(1)));
        assert!(!begun.end().is_beginning() && begun.end().without_line().contains(Epoch(1)));
        let died = begun.clone().begin().without_line();
        assert!(died.contains(Epoch(1)) && died.contains(Epoch(2)));
        assert!(begun.serve(true).end().begin().serve(true).without_line().is_empty());
        let untrailed = begun.serve(false).end().begin().serve(true).without_line();
        assert!(untrailed.contains(Epoch(1)) && !untrailed.contains(Epoch(2)));
    }

    #[test]
    fn a_read_only_mount_begins_no_epoch() {
        let open = EpochRecord::default().begin();
        let seen = open.clone().observe();
        assert_eq!(seen.current, open.current);
        assert!(seen.crashed(Epoch(1)));
    }
}
