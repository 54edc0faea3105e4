//! What the threads of a session do, and what the pool knows of the last requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Condvar;

/// How often the watchdog checks that requests are taken. After so long without a request a run of
/// them has ended.
pub const WATCHDOG_INTERVAL: Duration = Duration::from_millis(5);
/// Consecutive requests, each beside which another waited, after which a second worker is woken.
pub const BACKLOG_THRESHOLD: u32 = 4;
/// A worker checks the queue at every request of this number; at each one after a slow reply, and after
/// a request beside which another waited.
pub const QUEUE_CHECK_PERIOD: u64 = 4;
/// Consecutive requests that make a run.
pub const RUN_THRESHOLD: u32 = 32;
/// Requests after a stall for which a second thread reads the device.
pub const STALL_REQUESTS: u32 = 256;

/// Whether one of the threads that stand by checks that requests are taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum Watchdog {
    /// None does: no request is under way, or two threads read the device.
    #[default]
    Off,
    /// The next thread that goes on standby, or is woken there, is to.
    Wanted,
    /// One does.
    Running,
}

/// The state of a pool, under its lock.
#[derive(Debug, Default)]
pub struct PoolState {
    /// Threads that read the device, or are about to, of those that have taken a request before.
    pub reading: usize,
    /// Threads that answer a request.
    pub busy: usize,
    /// Threads that stand by: the watchdog, and those that are parked.
    pub standing_by: usize,
    /// What the parked threads wait for. The one that worked last is at the end and is woken first:
    /// its stack and its buffers are still in the processor's cache.
    pub parked: Vec<Arc<Condvar>>,
    /// How many of the threads that stand by are to go back to work.
    pub pending_wakes: usize,
    pub watchdog: Watchdog,
    /// Requests taken.
    pub taken: u64,
    /// When the last one was taken.
    pub last_taken: Option<Instant>,
    /// The length of the run so far.
    pub run: u32,
    /// Requests left for which a second thread reads the device, after a stall.
    pub stalled: u32,
    /// Consecutive requests, each beside which another waited.
    pub backlog: u32,
    /// The last reply was slow.
    pub was_slow: bool,
    /// The last reply was slow, and a request waited by then.
    pub was_held_up: bool,
    /// The thread of a program that made the last request.
    pub caller: u32,
    /// A thread has ended, which happens only when the mount is gone.
    pub ended: bool,
}

impl PoolState {
    /// Notes a request of the thread `caller`, 0 for the kernel's own, taken at `now`; `waits` says that
    /// another one is queued. Returns whether the requests are more than one thread should answer.
    pub fn note_request(&mut self, caller: u32, now: Instant, waits: bool) -> bool {
        self.taken += 1;
        self.busy += 1;
        let follows = self
            .last_taken
            .is_some_and(|last| now.saturating_duration_since(last) <= WATCHDOG_INTERVAL);
        self.run = if follows { self.run.saturating_add(1) } else { 0 };
        self.last_taken = Some(now);
        self.stalled = self.stalled.saturating_sub(1);
        self.backlog = if waits { self.backlog + 1 } else { 0 };
        let is_other = caller == 0 || caller != self.caller;
        if caller != 0 {
            self.caller = caller;
        }
        let held_up = std::mem::take(&mut self.was_held_up) && is_other;
        held_up || self.is_backlogged() || waits && self.was_slow
    }

    pub fn is_backlogged(&self) -> bool {
        self.backlog >= BACKLOG_THRESHOLD
    }

    /// Whether the next request is one at which the queue is checked.
    pub fn checks_queue(&self) -> bool {
        self.was_slow || self.backlog > 0 || self.taken.is_multiple_of(QUEUE_CHECK_PERIOD)
    }
}
