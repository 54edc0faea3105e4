//! What each part of a file may be at a moment: the changes of it, of all processes, with when each
//! began and ended. Kept in a file that the processes map.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::common::Mapping;
use crate::common::files::open_with;

/// Bytes of a slot: a part of the file that is changed as a whole, though not at once.
pub const SLOT: usize = 512;
pub const SLOTS: usize = 512;
const KEPT: usize = 256;

/// The last changes of every slot.
pub struct History(Mapping);

#[repr(C)]
struct Slot {
    lock: AtomicU32,
    count: AtomicU32,
    changes: [Change; KEPT],
}

#[repr(C)]
struct Change {
    value: AtomicU64,
    begin: AtomicU64,
    /// 0 while it is under way, and where it failed: it may be there or not.
    end: AtomicU64,
}

/// What a look at a slot came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    Right,
    /// So much has changed meanwhile that it can't be told.
    Unknown,
    Wrong(String),
}

/// Nanoseconds since the machine came up.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills in the structure.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The word that a write fills a slot with: who, which of theirs, and where.
pub fn word(writer: u64, number: u64, slot: usize) -> u64 {
    writer << 56 | number << 16 | slot as u64
}

impl History {
    pub fn create(path: &Path) {
        File::create(path).unwrap().set_len((size_of::<Slot>() * SLOTS) as u64).unwrap();
    }

    pub fn open(path: &Path) -> History {
        let file = open_with(path, 0);
        History(Mapping::shared(&file, size_of::<Slot>() * SLOTS).unwrap())
    }

    /// A change of these slots begins, each to the value that `value` says.
    pub fn begin(&self, slots: std::ops::Range<usize>, value: impl Fn(usize) -> u64) -> Vec<u32> {
        let begin = now();
        slots
            .map(|at| {
                self.locked(at, |slot| {
                    let number = slot.count.fetch_add(1, Ordering::SeqCst);
                    let change = &slot.changes[number as usize % KEPT];
                    change.value.store(value(at), Ordering::SeqCst);
                    change.begin.store(begin, Ordering::SeqCst);
                    change.end.store(0, Ordering::SeqCst);
                    number
                })
            })
            .collect()
    }

    /// The change has succeeded.
    pub fn end(&self, first: usize, numbers: &[u32]) {
        let end = now();
        for (at, number) in (first..).zip(numbers) {
            self.locked(at, |slot| {
                let kept = slot.count.load(Ordering::SeqCst) - number <= KEPT as u32;
                if kept {
                    slot.changes[*number as usize % KEPT].end.store(end, Ordering::SeqCst);
                }
            });
        }
    }

    /// Whether a read that began at `begin` may have found these words in the slot.
    pub fn look(&self, at: usize, begin: u64, words: impl Iterator<Item = u64>) -> Look {
        let mut found: Vec<u64> = words.collect();
        found.sort_unstable();
        found.dedup();
        self.locked(at, |slot| {
            let count = slot.count.load(Ordering::SeqCst) as usize;
            let kept: Vec<(u64, u64, u64)> = (count.saturating_sub(KEPT)..count)
                .map(|number| {
                    let change = &slot.changes[number % KEPT];
                    let end = match change.end.load(Ordering::SeqCst) {
                        0 => u64::MAX,
                        end => end,
                    };
                    (change.value.load(Ordering::SeqCst), change.begin.load(Ordering::SeqCst), end)
                })
                .chain((count <= KEPT).then_some((0, 0, 0)))
                .collect();
            // When the last change began that had ended before the read began.
            let settled = kept.iter().filter(|(_, _, end)| *end < begin).map(|change| change.1);
            let settled = settled.max().unwrap_or(0);
            for value in found {
                let mut same = kept.iter().filter(|change| change.0 == value).peekable();
                if same.peek().is_none() && count > KEPT {
                    return Look::Unknown;
                }
                if !same.any(|(_, _, end)| *end >= settled) {
                    let last = &kept[..kept.len().min(6)];
                    let newest = kept.iter().rev().take(6).collect::<Vec<_>>();
                    return Look::Wrong(format!(
                        "slot {at} holds {value:#x}; read at {begin}; {count} changes, {last:x?} … {newest:x?}"
                    ));
                }
            }
            Look::Right
        })
    }

    fn locked<T>(&self, at: usize, act: impl FnOnce(&Slot) -> T) -> T {
        assert!(at < SLOTS);
        // SAFETY: the mapping holds SLOTS of them, of atomics alone, and is as aligned as a page.
        let slot = unsafe { &*self.0.bytes().as_ptr().cast::<Slot>().add(at) };
        while slot.lock.swap(1, Ordering::SeqCst) != 0 {
            std::thread::yield_now();
        }
        let done = act(slot);
        slot.lock.store(0, Ordering::SeqCst);
        done
    }
}

/// The words of one slot; what lies past the end of the file is zeros.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    })
}

#[test]
fn a_history_tells_what_is_stale() {
    let scratch = crate::common::Scratch::new();
    let path = scratch.join("history");
    History::create(&path);
    let history = History::open(&path);
    let look = |value: u64| history.look(3, now(), [value].into_iter());
    assert_eq!(look(0), Look::Right);
    let first = history.begin(3..4, |_| 7);
    assert_eq!((look(0), look(7)), (Look::Right, Look::Right));
    history.end(3, &first);
    assert_eq!(look(7), Look::Right);
    assert!(matches!(look(0), Look::Wrong(_)));
    history.begin(3..4, |_| 8);
    assert_eq!((look(7), look(8)), (Look::Right, Look::Right));
    assert!(matches!(look(9), Look::Wrong(_)));
}
