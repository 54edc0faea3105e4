//! Reader-writer locks by key: one for each key that is in use, and none for the others.
//!
//! Two keys never share a lock, so a thread that waits for a disk delays only threads that lock the
//! same key. The table of locks is sharded, and a shard is locked for no longer than it takes to
//! find a key in it.

use parking_lot::{Condvar, Mutex};

/// Parts of the table. More than threads that are likely to meet.
const SHARDS: usize = 64;

/// Locks by key.
#[derive(Debug)]
pub struct KeyLocks([Shard; SHARDS]);

#[derive(Debug, Default)]
struct Shard {
    /// The locks that are held or waited for: mostly none, seldom more than one.
    locks: Mutex<Vec<Lock>>,
    /// A lock was released that others wait for.
    released: Condvar,
}

#[derive(Debug)]
struct Lock {
    key: u64,
    readers: u32,
    writer: bool,
    /// Threads that wait for it.
    waiting: u32,
    /// Those of them that wait to write. Later readers wait for them, so that writers do not
    /// starve.
    waiting_writers: u32,
}

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Together with other readers.
    Read,
    /// Alone.
    Write,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
pub struct KeyLock<'a> {
    shard: &'a Shard,
    key: u64,
    mode: Mode,
}

impl Default for KeyLocks {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Shard::default()))
    }
}

impl KeyLocks {
    /// Holds `key` together with other readers.
    pub fn read(&self, key: u64) -> KeyLock<'_> {
        self.lock(key, Mode::Read)
    }

    /// Holds `key` alone.
    pub fn write(&self, key: u64) -> KeyLock<'_> {
        self.lock(key, Mode::Write)
    }

    /// Holds two keys, in the order of their numbers, so that no two threads each hold one of them
    /// and wait for the other. Of one key twice, one lock is held, for writing if either mode is
    /// that. A thread that holds any other key of the table must not call this.
    pub fn both(&self, one: (u64, Mode), other: (u64, Mode)) -> (KeyLock<'_>, Option<KeyLock<'_>>) {
        let (first, second) = if one.0 <= other.0 { (one, other) } else { (other, one) };
        if first.0 == second.0 {
            let mode = if first.1 == Mode::Write { Mode::Write } else { second.1 };
            return (self.lock(first.0, mode), None);
        }
        (self.lock(first.0, first.1), Some(self.lock(second.0, second.1)))
    }

    fn lock(&self, key: u64, mode: Mode) -> KeyLock<'_> {
        // Fibonacci hashing (Knuth, TAOCP 3, 6.4): inode numbers may differ in any of their bits.
        let hash = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - SHARDS.ilog2());
        let shard = &self.0[hash as usize];
        let mut locks = shard.locks.lock();
        let mut at = position(&mut locks, key);
        if !locks[at].admits(mode) {
            locks[at].wait(mode, 1);
            while {
                shard.released.wait(&mut locks);
                at = position(&mut locks, key);
                !locks[at].is_free_for(mode)
            } {}
            locks[at].wait(mode, -1);
        }
        match mode {
            Mode::Read => locks[at].readers += 1,
            Mode::Write => locks[at].writer = true,
        }
        KeyLock { shard, key, mode }
    }
}

/// Where the lock of `key` is among `locks`. It is added if it is not.
fn position(locks: &mut Vec<Lock>, key: u64) -> usize {
    locks.iter().position(|lock| lock.key == key).unwrap_or_else(|| {
        locks.push(Lock { key, readers: 0, writer: false, waiting: 0, waiting_writers: 0 });
        locks.len() - 1
    })
}

impl Lock {
    /// Whether a new thread gets it at once.
    fn admits(&self, mode: Mode) -> bool {
        self.is_free_for(mode) && (mode == Mode::Write || self.waiting_writers == 0)
    }

    fn is_free_for(&self, mode: Mode) -> bool {
        !self.writer && (mode == Mode::Read || self.readers == 0)
    }

    /// So many more threads wait.
    fn wait(&mut self, mode: Mode, threads: i32) {
        self.waiting = self.waiting.saturating_add_signed(threads);
        if mode == Mode::Write {
            self.waiting_writers = self.waiting_writers.saturating_add_signed(threads);
        }
    }
}

impl Drop for KeyLock<'_> {
    fn drop(&mut self) {
        let mut locks = self.shard.locks.lock();
        let at = position(&mut locks, self.key);
        let lock = &mut locks[at];
        match self.mode {
            Mode::Read => lock.readers -= 1,
            Mode::Write => lock.writer = false,
        }
        if lock.readers > 0 {
            return;
        }
        match lock.waiting {
            0 => _ = locks.swap_remove(at),
            // A shard has one condition for all of its locks.
            _ => _ = self.shard.released.notify_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    fn is_empty(locks: &KeyLocks) -> bool {
        locks.0.iter().all(|shard| shard.locks.lock().is_empty())
    }

    #[test]
    fn readers_share_a_key_and_a_writer_does_not() {
        let locks = KeyLocks::default();
        // Of all shards, so also of the one of key 7.
        let others: Vec<_> = (100..1100).map(|key| locks.write(key)).collect();
        let reader = locks.read(7);
        drop(locks.read(7));
        thread::scope(|scope| {
            let ((entered, written), locks) = (channel(), &locks);
            scope.spawn(move || {
                let writer = locks.write(7);
                entered.send(()).unwrap();
                drop(writer);
            });
            assert!(written.recv_timeout(SHORT).is_err(), "it writes beside a reader");
            drop(reader);
            written.recv_timeout(LONG).unwrap();
        });
        drop(others);
        assert!(is_empty(&locks));
    }

    #[test]
    fn a_writer_comes_before_later_readers() {
        let locks = KeyLocks::default();
        let order = AtomicU32::new(0);
        let first = locks.read(7);
        thread::scope(|scope| {
            let writes = scope.spawn(|| {
                let _lock = locks.write(7);
                order.fetch_add(1, Ordering::SeqCst)
            });
            while locks.0.iter().all(|shard| shard.locks.lock().iter().all(|l| l.waiting == 0)) {
                thread::yield_now();
            }
            let reads = scope.spawn(|| {
                let _lock = locks.read(7);
                order.fetch_add(1, Ordering::SeqCst)
            });
            thread::sleep(SHORT);
            drop(first);
            assert_eq!((writes.join().unwrap(), reads.join().unwrap()), (0, 1));
        });
        assert!(is_empty(&locks));
    }

    #[test]
    fn pairs_in_any_order_end() {
        let (locks, held) = (KeyLocks::default(), [0; 4].map(|_| AtomicI32::new(0)));
        let enter = |key: u64, mode| match mode {
            Mode::Read => assert!(held[key as usize].fetch_add(1, Ordering::SeqCst) >= 0),
            Mode::Write => assert_eq!(held[key as usize].fetch_sub(100, Ordering::SeqCst), 0),
        };
        let leave = |key: u64, mode| match mode {
            Mode::Read => held[key as usize].fetch_sub(1, Ordering::SeqCst),
            Mode::Write => held[key as usize].fetch_add(100, Ordering::SeqCst),
        };
        thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (locks, enter, leave) = (&locks, &enter, &leave);
                scope.spawn(move || {
                    for round in 0..5000 {
                        let (one, other) = ((thread + round) % 4, (thread * round + 3) % 4);
                        let mode = if round % 3 == 0 { Mode::Write } else { Mode::Read };
                        let both = locks.both((one, mode), (other, Mode::Write));
                        assert_eq!(both.1.is_none(), one == other);
                        let mode = if one == other { Mode::Write } else { mode };
                        enter(one, mode);
                        if one != other {
                            enter(other, Mode::Write);
                            leave(other, Mode::Write);
                        }
                        leave(one, mode);
                    }
                });
            }
        });
        assert!(is_empty(&locks));
    }
}
