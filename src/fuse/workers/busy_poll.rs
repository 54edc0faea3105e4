//! Busy polling: a thread that has answered polls the device before it sleeps in a read of it.

use std::hint;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::sys;

/// The default; the manual's performance page has the figures.
const DEFAULT_LIMIT: Duration = Duration::from_micros(50);
/// The longest busy poll in microseconds.
pub const MAX_BUSY_POLL_US: u32 = 1000;

/// How long the threads of a session poll for the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusyPoll {
    /// As long as it pays: not at all with a single processor, which the programs that make the
    /// requests need more, nor on battery.
    #[default]
    Auto,
    /// So many microseconds, zero for never, on any machine.
    Fixed(u32),
}

impl BusyPoll {
    /// How long, with the power supply as it is now.
    pub fn limit(self) -> Duration {
        let processors = available_parallelism().map_or(1, usize::from);
        self.limit_with(processors, sys::on_battery())
    }

    fn limit_with(self, processors: usize, on_battery: bool) -> Duration {
        match self {
            Self::Fixed(microseconds) => Duration::from_micros(microseconds.into()),
            Self::Auto if processors == 1 || on_battery => Duration::ZERO,
            Self::Auto => DEFAULT_LIMIT,
        }
    }
}

/// Polls a session's device, in one thread at a time.
#[derive(Debug)]
pub struct BusyPoller {
    device: OwnedFd,
    /// Nanoseconds; zero for never.
    limit: AtomicU64,
    /// A thread polls.
    polling: AtomicBool,
}

impl BusyPoller {
    pub fn new(device: OwnedFd, limit: Duration) -> Self {
        let poller = Self { device, limit: AtomicU64::new(0), polling: AtomicBool::new(false) };
        poller.set_limit(limit);
        poller
    }

    /// Changes how long a thread polls, from the next time on.
    pub fn set_limit(&self, limit: Duration) {
        let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.limit.store(nanoseconds, Ordering::Relaxed);
    }

    /// How long a thread polls.
    pub fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Ordering::Relaxed))
    }

    /// Returns when a request is queued, the time is up, or another thread polls already.
    pub fn poll(&self) {
        let limit = self.limit();
        if limit.is_zero() || self.polling.swap(true, Ordering::Acquire) {
            return;
        }
        let begun = Instant::now();
        while begun.elapsed() < limit && !self.has_request() {
            hint::spin_loop();
        }
        self.polling.store(false, Ordering::Release);
    }

    /// Whether a request is queued. An error counts as one: the next read of the device returns it.
    pub fn has_request(&self) -> bool {
        let mut device = [PollFd::new(&self.device, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut device, Some(&now)), Ok(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_polled_where_others_need_the_processor() {
        assert_eq!(BusyPoll::Auto.limit_with(1, false), Duration::ZERO);
        assert_eq!(BusyPoll::Auto.limit_with(8, true), Duration::ZERO);
        assert_eq!(BusyPoll::Auto.limit_with(2, false), DEFAULT_LIMIT);
        assert_eq!(BusyPoll::Fixed(80).limit_with(1, true), Duration::from_micros(80));
        assert_eq!(BusyPoll::Fixed(0).limit_with(8, false), Duration::ZERO);
    }
}
