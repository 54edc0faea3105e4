//! A brief spin: after a reply the next request is often a few microseconds away, and waking a
//! processor that went idle costs more than looking for it. Not so after an answer that itself took
//! longer than that, as one does that waits for a disk: its processor time belongs to others then.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Looks out for the next request for a bounded time, one thread at a time.
#[derive(Debug)]
pub(super) struct Spin {
    device: OwnedFd,
    /// In nanoseconds.
    limit: AtomicU64,
    looking: AtomicBool,
}

impl Spin {
    /// Spins on `device` for at most `limit`; zero never spins.
    pub(super) fn new(device: OwnedFd, limit: Duration) -> Self {
        let spin = Self { device, limit: AtomicU64::new(0), looking: AtomicBool::new(false) };
        spin.set_limit(limit);
        spin
    }

    /// Changes for how long.
    pub(super) fn set_limit(&self, limit: Duration) {
        let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.limit.store(nanoseconds, Ordering::Relaxed);
    }

    /// For how long.
    pub(super) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Ordering::Relaxed))
    }

    /// After a request whose answer was begun at `answering`. Returns when another is there, the
    /// time is up, another thread looks out already, or the answer took longer than the limit.
    pub(super) fn wait(&self, answering: Instant) {
        let limit = self.limit();
        if limit.is_zero() {
            return;
        }
        let begun = Instant::now();
        if begun - answering > limit || self.looking.swap(true, Ordering::Acquire) {
            return;
        }
        while begun.elapsed() < limit && !self.request_waits() {
            std::hint::spin_loop();
        }
        self.looking.store(false, Ordering::Release);
    }

    /// An error counts as a request: reading the device then tells what is the matter.
    fn request_waits(&self) -> bool {
        let mut device = [PollFd::new(&self.device, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut device, Some(&now)), Ok(0))
    }
}
