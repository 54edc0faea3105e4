//! The times of change (ctime) that stat showed, where the vault's differ.
//!
//! No call sets a ctime. For one change of a file the kernel takes a time, with the writeback
//! cache, and the backing filesystem another; and what the daemon writes afterwards (a header at
//! close or by a rewrap, times put back) moves the latter once more. Programs that make backups
//! take another ctime for a change, so what stat showed once must stay. It is kept with the ctime
//! that the backing file had then: with any other, the file was changed since, and its own holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use rustix::fs::Stat;

use crate::fs::Inode;

/// Files that are kept at most; of more, those that change last show the vault's ctime after an
/// eviction.
const MAX_FILES: usize = 1 << 20;

/// Begins the bytes that are kept in the vault.
const MAGIC: &[u8; 8] = b"atctimes";

/// What is kept, by inode.
#[derive(Debug, Default)]
pub struct ChangeTimes {
    pairs: DashMap<Inode, Pair>,
    kernel_keeps: AtomicBool,
    changed: AtomicBool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    backing: ChangeTime,
    shown: ChangeTime,
}

/// Nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeTime(i64);

impl ChangeTimes {
    /// What [`ChangeTimes::to_bytes`] gave. Any other bytes count as none: only the times that
    /// programs see depend on them.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let times = Self::default();
        let records = bytes.strip_prefix(MAGIC).unwrap_or_default();
        let (records, _) = records.as_chunks::<24>();
        for record in records.iter().take(MAX_FILES) {
            let (words, _) = record.as_chunks::<8>();
            let &[inode, backing, shown] = words else { continue };
            let pair = Pair {
                backing: ChangeTime(i64::from_le_bytes(backing)),
                shown: ChangeTime(i64::from_le_bytes(shown)),
            };
            times.pairs.insert(Inode(u64::from_le_bytes(inode)), pair);
        }
        times
    }

    /// What to keep in the vault for the next mount; `None` where it has all.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        if !self.changed.load(Ordering::Relaxed) {
            return None;
        }
        let mut bytes = MAGIC.to_vec();
        for entry in &self.pairs {
            let Pair { backing, shown } = *entry.value();
            bytes.extend(entry.key().0.to_le_bytes());
            bytes.extend(backing.0.to_le_bytes());
            bytes.extend(shown.0.to_le_bytes());
        }
        Some(bytes)
    }

    /// The kernel keeps the times of files itself, and sets them by SETATTR.
    pub fn kernel_keeps_them(&self) {
        self.kernel_keeps.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub fn does_kernel_keep_them(&self) -> bool {
        self.kernel_keeps.load(Ordering::Relaxed)
    }

    /// The ctime to show of a file.
    pub fn shown(&self, inode: Inode, stat: &Stat) -> ChangeTime {
        let backing = ChangeTime::of(stat);
        match self.pairs.get(&inode) {
            Some(pair) if pair.backing == backing => pair.shown,
            _ => backing,
        }
    }

    /// Notes what to show of a file for as long as it has the ctime of `stat`.
    pub fn note(&self, inode: Inode, stat: &Stat, shown: ChangeTime) {
        let pair = Pair { backing: ChangeTime::of(stat), shown };
        if pair.backing == shown || stat.st_nlink == 0 {
            return self.forget(inode);
        }
        if self.pairs.len() < MAX_FILES || self.pairs.contains_key(&inode) {
            self.pairs.insert(inode, pair);
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    /// The inode was removed, or its own ctime is to be shown.
    pub fn forget(&self, inode: Inode) {
        if self.pairs.remove(&inode).is_some() {
            self.changed.store(true, Ordering::Relaxed);
        }
    }
}

impl ChangeTime {
    /// The backing filesystem's.
    pub fn of(stat: &Stat) -> Self {
        Self(stat.st_ctime.saturating_mul(1_000_000_000).saturating_add(stat.st_ctime_nsec as i64))
    }
}

impl ChangeTime {
    /// Seconds, and nanoseconds after them, as stat(2) has them.
    pub fn parts(self) -> (i64, u64) {
        (self.0.div_euclid(1_000_000_000), self.0.rem_euclid(1_000_000_000) as u64)
    }
}

impl From<SystemTime> for ChangeTime {
    fn from(time: SystemTime) -> Self {
        let nanoseconds = |span: Duration| i64::try_from(span.as_nanos()).unwrap_or(i64::MAX);
        match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => Self(nanoseconds(after)),
            Err(error) => Self(-nanoseconds(error.duration())),
        }
    }
}

impl From<ChangeTime> for SystemTime {
    fn from(ChangeTime(time): ChangeTime) -> Self {
        let span = Duration::from_nanos(time.unsigned_abs());
        if time < 0 { Self::UNIX_EPOCH - span } else { Self::UNIX_EPOCH + span }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat() -> Stat {
        rustix::fs::stat("/").unwrap()
    }

    #[test]
    fn what_was_shown_holds_until_the_next_change() {
        let times = ChangeTimes::default();
        let (inode, mut stat) = (Inode(7), stat());
        let shown = ChangeTime(1_700_000_000_000_000_001);
        times.note(inode, &stat, shown);
        let kept = ChangeTimes::from_bytes(&times.to_bytes().unwrap());
        assert_eq!(kept.to_bytes(), None);
        for times in [&times, &kept] {
            assert_eq!(times.shown(inode, &stat), shown);
            assert_eq!(times.shown(Inode(8), &stat), ChangeTime::of(&stat));
        }
        stat.st_ctime_nsec ^= 1;
        assert_eq!(times.shown(inode, &stat), ChangeTime::of(&stat));
        times.note(inode, &stat, ChangeTime::of(&stat));
        assert_eq!(times.to_bytes().unwrap(), MAGIC);
    }

    #[test]
    fn a_file_takes_64_bytes_and_a_million_have_them() {
        let (times, stat) = (ChangeTimes::default(), stat());
        (0..MAX_FILES as u64 + 1000)
            .for_each(|inode| times.note(Inode(inode), &stat, ChangeTime(7)));
        assert_eq!(times.pairs.len(), MAX_FILES);
        let entry = size_of::<(Inode, Pair)>() + 1;
        assert!(times.pairs.capacity() * entry <= 64 * MAX_FILES, "{}", times.pairs.capacity());
    }

    #[test]
    fn bytes_of_anything_else_are_nothing() {
        for bytes in [&b""[..], b"atctime", b"atctimes1234", &[7; 1000]] {
            assert!(ChangeTimes::from_bytes(bytes).pairs.is_empty());
        }
    }
}
