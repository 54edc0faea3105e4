//! Space that is about to be freed. A removed file keeps its content until the kernel forgets its
//! inode, since an O_PATH descriptor of it can still be opened. The FORGET comes shortly after the
//! unlink(2) has returned, so a program that deletes to make room may write too early.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// What is not forgotten so long after its removal is in use, and not waited for.
const MAX_WAIT: Duration = Duration::from_secs(1);
/// Writers that wait at once: the requests that free space need threads too.
const MAX_WAITERS: usize = 4;

/// The removed files whose space is about to be freed.
#[derive(Debug, Default)]
pub struct PendingFrees {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When each was removed.
    removed: HashMap<u64, Instant>,
    next: u64,
    /// When space last came back.
    came_back: Option<Instant>,
    waiters: usize,
}

impl PendingFrees {
    /// A file was removed; its space is back when what this returns is dropped.
    pub fn expect(self: &Arc<Self>) -> PendingFree {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.removed.insert(number, Instant::now());
        PendingFree { number, pending_frees: Arc::clone(self) }
    }

    /// After work that found no room: waits, a second at most, for the space of the files that were
    /// just removed. Returns whether there may be more of it than the work found.
    pub fn wait(&self) -> bool {
        let mut state = self.state.lock();
        if state.waiters >= MAX_WAITERS {
            return false;
        }
        state.waiters += 1;
        let newest = state.next;
        while let Some(until) = state.due(newest) {
            self.changed.wait_until(&mut state, until);
        }
        state.waiters -= 1;
        state.came_back.is_some_and(|time| time.elapsed() < 2 * MAX_WAIT)
    }
}

impl State {
    /// Until when there is something to wait for, of what was removed before the number `newest`.
    fn due(&self, newest: u64) -> Option<Instant> {
        let earlier = self.removed.iter().filter(|(number, _)| **number < newest);
        let until = earlier.map(|(_, removed)| *removed + MAX_WAIT).max()?;
        (until > Instant::now()).then_some(until)
    }
}

/// Held as long as a removed file has its space.
#[derive(Debug)]
pub struct PendingFree {
    number: u64,
    pending_frees: Arc<PendingFrees>,
}

impl Drop for PendingFree {
    fn drop(&mut self) {
        let mut state = self.pending_frees.state.lock();
        state.removed.remove(&self.number);
        state.came_back = Some(Instant::now());
        self.pending_frees.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn whoever_finds_no_room_waits_for_what_was_just_removed() {
        let pending_frees = Arc::new(PendingFrees::default());
        assert!(!pending_frees.wait(), "nothing was removed");
        let departure = pending_frees.expect();
        let later = Duration::from_millis(100);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(later);
                drop(departure);
            });
            let begun = Instant::now();
            assert!(pending_frees.wait());
            assert!(begun.elapsed() >= later);
        });
        assert!(pending_frees.wait(), "it may have come back since the work failed");
    }

    #[test]
    fn what_is_removed_meanwhile_is_not_waited_for() {
        let pending_frees = Arc::new(PendingFrees::default());
        let _held = pending_frees.expect();
        let waited = thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                let begun = Instant::now();
                pending_frees.wait();
                begun.elapsed()
            });
            let mut later = Vec::new();
            while !waiter.is_finished() && later.len() < 100 {
                thread::sleep(MAX_WAIT / 20);
                later.push(pending_frees.expect());
            }
            waiter.join().unwrap()
        });
        assert!(waited < 3 * MAX_WAIT, "{waited:?}");
    }

    #[test]
    fn what_is_held_is_not_waited_for() {
        let pending_frees = Arc::new(PendingFrees::default());
        let _held = pending_frees.expect();
        let begun = Instant::now();
        assert!(!pending_frees.wait());
        let waited = begun.elapsed();
        assert!(waited >= MAX_WAIT / 2, "{waited:?}");
        pending_frees.wait();
        assert!(begun.elapsed() - waited < MAX_WAIT / 2, "it was waited for again");
    }

    #[test]
    fn a_few_wait_at_once() {
        let pending_frees = Arc::new(PendingFrees::default());
        let _held = pending_frees.expect();
        thread::scope(|scope| {
            for _ in 0..MAX_WAITERS {
                scope.spawn(|| pending_frees.wait());
            }
            while pending_frees.state.lock().waiters < MAX_WAITERS {
                thread::yield_now();
            }
            assert!(!pending_frees.wait());
            assert!(
                pending_frees.state.lock().due(u64::MAX).is_some(),
                "it came back without waiting"
            );
        });
    }
}
