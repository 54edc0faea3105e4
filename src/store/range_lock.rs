//! Locks on ranges of a file's blocks: readers share, a writer is alone in its range.

use parking_lot::{Condvar, Mutex};

use crate::format::BlockSpan;

/// Grants ranges in the order of the requests, so that no thread starves.
///
/// A thread must not claim a second range of the same file while it holds one.
#[derive(Debug, Default)]
pub struct RangeLocks {
    queue: Mutex<Queue>,
    released: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    next_ticket: u64,
    /// Held and awaited ranges, oldest first.
    claims: Vec<Claim>,
}

#[derive(Debug, Clone, Copy)]
struct Claim {
    ticket: u64,
    span: BlockSpan,
    exclusive: bool,
}

impl Claim {
    fn conflicts_with(&self, other: &Self) -> bool {
        (self.exclusive || other.exclusive)
            && self.span.first < other.span.end
            && other.span.first < self.span.end
    }
}

/// A held range; given back on drop.
#[derive(Debug)]
#[must_use]
pub struct RangeGuard<'a> {
    locks: &'a RangeLocks,
    ticket: u64,
}

impl RangeLocks {
    /// Waits until no writer is in `span`.
    pub fn shared(&self, span: BlockSpan) -> RangeGuard<'_> {
        self.claim(span, false)
    }

    /// Waits until no other thread is in `span`.
    pub fn exclusive(&self, span: BlockSpan) -> RangeGuard<'_> {
        self.claim(span, true)
    }

    fn claim(&self, span: BlockSpan, exclusive: bool) -> RangeGuard<'_> {
        let mut queue = self.queue.lock();
        let ticket = queue.next_ticket;
        queue.next_ticket += 1;
        let claim = Claim { ticket, span, exclusive };
        queue.claims.push(claim);
        while queue.must_wait(&claim) {
            self.released.wait(&mut queue);
        }
        RangeGuard { locks: self, ticket }
    }
}

impl Queue {
    fn must_wait(&self, claim: &Claim) -> bool {
        self.claims
            .iter()
            .take_while(|earlier| earlier.ticket != claim.ticket)
            .any(|earlier| earlier.conflicts_with(claim))
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        let mut queue = self.locks.queue.lock();
        queue.claims.retain(|claim| claim.ticket != self.ticket);
        if !queue.claims.is_empty() {
            self.locks.released.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::format::BlockIndex;

    fn span(first: u64, end: u64) -> BlockSpan {
        BlockSpan { first: BlockIndex(first), end: BlockIndex(end) }
    }

    #[test]
    fn readers_share_and_apart_writers_do_not_meet() {
        let locks = RangeLocks::default();
        let _a = locks.shared(span(0, 10));
        let _b = locks.shared(span(5, 15));
        let _c = locks.exclusive(span(15, 20));
    }

    #[test]
    fn a_writer_is_alone_in_its_range() {
        let locks = RangeLocks::default();
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (locks, inside) = (&locks, &inside);
                scope.spawn(move || {
                    for _ in 0..500 {
                        let _guard = locks.exclusive(span(thread, 10));
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    #[test]
    fn a_waiting_writer_goes_before_later_readers() {
        let locks = RangeLocks::default();
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            let reader = locks.shared(span(0, 1));
            scope.spawn(|| {
                let _guard = locks.exclusive(span(0, 1));
                order.lock().push("writer");
            });
            while locks.queue.lock().claims.len() < 2 {
                std::thread::sleep(Duration::from_millis(1));
            }
            scope.spawn(|| {
                let _guard = locks.shared(span(0, 1));
                order.lock().push("reader");
            });
            while locks.queue.lock().claims.len() < 3 {
                std::thread::sleep(Duration::from_millis(1));
            }
            drop(reader);
        });
        assert_eq!(*order.lock(), ["writer", "reader"]);
    }
}
