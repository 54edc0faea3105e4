//! The vault's record of its mounts: which epoch this is, and which ended in a crash.

use serde::{Deserialize, Serialize};

use crate::format::Epoch;

/// What is known of all mounts so far. An epoch that is not in `crashed` ended cleanly, or what it
/// left was recovered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The newest writable mount.
    pub current: Epoch,
    /// Whether it runs, or died without a clean end.
    pub open: bool,
    /// Ranges, first and last included, of epochs that crashed and whose files were not all
    /// recovered since; apart and in order.
    crashed: Vec<(Epoch, Epoch)>,
}

impl EpochRecord {
    /// In the place of one that was lost, where `newest` is the last mount that is known of and may
    /// not have ended.
    pub fn in_place_of_lost(newest: Epoch) -> Self {
        Self { current: newest, open: true, crashed: Vec::new() }
    }

    /// The record after a writable mount begins: one that was still open has crashed.
    pub fn begin(mut self) -> Self {
        if self.open {
            self.note_crash(self.current);
        }
        Self { current: Epoch(self.current.0 + 1), open: true, crashed: self.crashed }
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
            self.note_crash(self.current);
        }
        self
    }

    /// The record after the current epoch ended cleanly.
    pub fn end(&self) -> Self {
        Self { open: false, ..self.clone() }
    }

    /// The record after all files were recovered, durably: no crash excuses anything any more.
    pub fn recovered(self) -> Self {
        Self { crashed: Vec::new(), ..self }
    }

    /// Whether `epoch` crashed.
    pub fn crashed(&self, epoch: Epoch) -> bool {
        self.crashed.iter().any(|&(first, last)| (first..=last).contains(&epoch))
    }

    /// Whether any epoch after `epoch` crashed.
    pub fn crashed_after(&self, epoch: Epoch) -> bool {
        self.crashed.last().is_some_and(|&(_, last)| last > epoch)
    }

    /// Whether any epoch crashed.
    pub fn any_crashed(&self) -> bool {
        !self.crashed.is_empty()
    }

    fn note_crash(&mut self, epoch: Epoch) {
        match self.crashed.last_mut() {
            Some((_, last)) if last.0 + 1 >= epoch.0 => *last = epoch.max(*last),
            _ => self.crashed.push((epoch, epoch)),
        }
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
        assert_eq!(fifth.crashed, [(Epoch(2), Epoch(3))]);
        assert!(!fifth.crashed(Epoch(4)) && !fifth.crashed(Epoch(5)));
    }

    #[test]
    fn a_read_only_mount_begins_no_epoch() {
        let open = EpochRecord::default().begin();
        let seen = open.clone().observe();
        assert_eq!(seen.current, open.current);
        assert!(seen.crashed(Epoch(1)));
    }
}
