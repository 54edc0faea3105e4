//! CPU pairing: the thread that answers runs on the caller's CPU.
//!
//! A program that waits for each answer and the thread that answers it are never busy at once. On
//! one CPU a request takes two switches between them. Across two it takes two wake-ups, each of them
//! several times as long where the CPU to wake has gone to sleep. But the kernel's scheduler sends a
//! thread that wakes to an idle CPU. So where there are two, the thread that answers moves to the
//! caller's, and while requests follow each other closely another thread of the daemon occupies the
//! other one, which then does not look idle. That thread pauses most of the time, since two CPUs are
//! often one core, yields to all threads that want to run there, and leaves when one does. After an
//! fsync(2) that took its time the choice is left to the scheduler: a disk may be near to one CPU and
//! far from the other.
//!
//! When the daemon's owner sets where it may run ([`Affinity`]), pairing ends for good.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{hint, thread};

use rustix::thread::{CpuSet, sched_getcpu};

use crate::sys::{Affinity, cpu_of};

/// How often the caller's CPU is looked up.
const CPU_LOOKUP_INTERVAL: Duration = Duration::from_millis(1);
/// When a yield takes longer, another thread works on the CPU, and was not woken for an instant alone.
const MAX_YIELD: Duration = Duration::from_micros(500);
/// The time between two yields.
const YIELD_INTERVAL: Duration = Duration::from_micros(10);
/// For how long both CPUs are left to others after one of them was wanted, or to a disk.
const BACK_OFF: Duration = Duration::from_millis(5);
/// In [`CpuPairing::caller_cpu`]: not known.
const UNKNOWN_CPU: usize = usize::MAX;

/// What a reply waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyKind {
    Fast,
    Slow,
    /// For a disk.
    SlowSync,
}

impl ReplyKind {
    pub fn of(is_slow: bool, synced: bool) -> Self {
        match (is_slow, synced) {
            (false, _) => Self::Fast,
            (true, false) => Self::Slow,
            (true, true) => Self::SlowSync,
        }
    }
}

/// What a session's threads know of the thread that makes the requests, and of its CPU.
#[derive(Debug)]
pub struct CpuPairing {
    affinity: Affinity,
    begun: Instant,
    /// When a request was last taken or answered, in nanoseconds since `begun`.
    last_event: AtomicU64,
    /// No thread begins to occupy a CPU before, in nanoseconds since `begun`.
    not_before: AtomicU64,
    /// The thread that made the last request; 0 after a slow reply.
    caller: AtomicU32,
    caller_cpu: AtomicUsize,
    /// A thread occupies the other CPU, or is about to.
    occupied: AtomicBool,
}

impl CpuPairing {
    /// `None` unless there are two CPUs: of more of them another would still be idle.
    pub fn detect() -> Option<Self> {
        let affinity = Affinity::current().filter(|current| current.allowed().count() == 2)?;
        Some(Self {
            affinity,
            begun: Instant::now(),
            last_event: AtomicU64::new(0),
            not_before: AtomicU64::new(0),
            caller: AtomicU32::new(0),
            caller_cpu: AtomicUsize::new(UNKNOWN_CPU),
            occupied: AtomicBool::new(false),
        })
    }

    /// Whether nobody but the daemon has set where its threads may run.
    pub fn is_enabled(&self) -> bool {
        !self.affinity.is_overridden()
    }

    /// This thread has taken a request of the thread `caller` at `now`; 0 is the kernel. Returns whether
    /// another thread should now [`occupy_other_cpu`](Self::occupy_other_cpu): when two requests of one
    /// caller follow each other within `limit`.
    pub fn on_request(&self, caller: u32, now: Instant, limit: Duration) -> bool {
        let now = self.nanoseconds_at(now);
        let since = now.saturating_sub(self.last_event.swap(now, Ordering::Relaxed));
        if caller == 0 {
            return false;
        }
        let again = self.caller.swap(caller, Ordering::Relaxed) == caller;
        if self.is_occupied() {
            self.move_to(self.caller_cpu.load(Ordering::Relaxed));
            return false;
        }
        let start = again
            && u128::from(since) < limit.as_nanos()
            && now >= self.not_before.load(Ordering::Relaxed);
        self.occupied.store(start, Ordering::Relaxed);
        start
    }

    /// This thread has answered at `now`. After a slow reply both CPUs are free for what it waited for,
    /// and for longer where that was a disk.
    pub fn on_reply(&self, now: Instant, kind: ReplyKind) {
        let now = self.nanoseconds_at(now);
        self.last_event.store(now, Ordering::Relaxed);
        if kind != ReplyKind::Fast {
            self.caller.store(0, Ordering::Relaxed);
        }
        if kind == ReplyKind::SlowSync {
            self.back_off(now);
        }
    }

    /// Whether a thread occupies the other CPU, or is about to.
    pub fn is_occupied(&self) -> bool {
        self.occupied.load(Ordering::Relaxed)
    }

    /// Ends [`CpuPairing::occupy_other_cpu`]: its thread is needed elsewhere.
    pub fn release(&self) {
        self.occupied.store(false, Ordering::Relaxed);
    }

    /// Occupies the CPU that is not the caller's, until no request came for `limit`, another thread
    /// wants that CPU, or [`CpuPairing::release`].
    pub fn occupy_other_cpu(&self, limit: Duration) {
        let (mut now, mut next_lookup) = (self.now(), 0);
        let mut runs_on = *self.affinity.allowed();
        while self.is_occupied() && self.is_active(now, limit) {
            if now >= next_lookup {
                next_lookup = now + nanoseconds(CPU_LOOKUP_INTERVAL);
                let Some(cpu) = cpu_of(self.caller.load(Ordering::Relaxed)) else { break };
                // A caller that runs where the daemon may not can't be followed.
                if !self.affinity.allowed().is_set(cpu) {
                    self.back_off(now);
                    break;
                }
                self.set_affinity(&mut runs_on, &self.affinity.all_but(Some(cpu)));
                self.caller_cpu.store(cpu, Ordering::Relaxed);
            }
            while self.now() - now < nanoseconds(YIELD_INTERVAL) {
                hint::spin_loop();
            }
            let before = self.now();
            thread::yield_now();
            now = self.now();
            if now - before > nanoseconds(MAX_YIELD) {
                self.back_off(now);
            }
        }
        self.caller_cpu.store(UNKNOWN_CPU, Ordering::Relaxed);
        self.release();
        self.set_affinity(&mut runs_on, self.affinity.allowed());
    }

    fn back_off(&self, now: u64) {
        self.not_before.store(now + nanoseconds(BACK_OFF), Ordering::Relaxed);
        self.release();
    }

    fn is_active(&self, now: u64, limit: Duration) -> bool {
        let idle = now.saturating_sub(self.last_event.load(Ordering::Relaxed));
        u128::from(idle) <= limit.as_nanos()
    }

    /// Moves this thread to a CPU. The scheduler may move it again.
    fn move_to(&self, cpu: usize) {
        if cpu != UNKNOWN_CPU && cpu != sched_getcpu() {
            let mut only = CpuSet::new();
            only.set(cpu);
            let mut runs_on = *self.affinity.allowed();
            self.set_affinity(&mut runs_on, &only);
            self.set_affinity(&mut runs_on, self.affinity.allowed());
        }
    }

    fn set_affinity(&self, runs_on: &mut CpuSet, to: &CpuSet) {
        self.affinity.change(runs_on, to);
        if !self.is_enabled() {
            self.release();
        }
    }

    fn now(&self) -> u64 {
        self.nanoseconds_at(Instant::now())
    }

    fn nanoseconds_at(&self, time: Instant) -> u64 {
        nanoseconds(time.saturating_duration_since(self.begun))
    }
}

fn nanoseconds(time: Duration) -> u64 {
    time.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use rustix::thread::{gettid, sched_getaffinity, sched_setaffinity};

    use super::*;

    const LONG: Duration = Duration::from_secs(10);
    const SHORT: Duration = Duration::from_millis(1);

    #[test]
    fn a_cpu_is_occupied_where_one_caller_asks_again_and_is_answered_soon() {
        let Some(pairing) = CpuPairing::detect() else { return };
        assert!(!pairing.on_request(1, Instant::now(), LONG));
        assert!(!pairing.on_request(2, Instant::now(), LONG), "another caller");
        pairing.on_reply(Instant::now(), ReplyKind::Slow);
        assert!(!pairing.on_request(2, Instant::now(), LONG), "after a slow answer");
        assert!(!pairing.on_request(0, Instant::now(), LONG), "the kernel");
        assert!(!pairing.on_request(2, Instant::now(), Duration::ZERO), "turned off");
        thread::sleep(SHORT * 2);
        assert!(!pairing.on_request(2, Instant::now(), SHORT), "late");
        assert!(pairing.on_request(2, Instant::now(), LONG));
        assert!(!pairing.on_request(2, Instant::now(), LONG), "it is occupied already");
        pairing.release();
        assert!(pairing.on_request(2, Instant::now(), LONG));
        let begun = Instant::now();
        pairing.on_reply(Instant::now(), ReplyKind::SlowSync);
        assert!(!pairing.is_occupied(), "a disk works");
        let occupies = pairing.on_request(2, Instant::now(), LONG)
            || pairing.on_request(2, Instant::now(), LONG);
        assert!(!occupies || begun.elapsed() >= BACK_OFF, "it may go on");
        pairing.release();
        thread::sleep(BACK_OFF);
        assert!(pairing.on_request(2, Instant::now(), LONG));
    }

    #[test]
    fn the_cpu_beside_the_caller_is_occupied_until_no_requests_come() {
        let Some(pairing) = CpuPairing::detect() else { return };
        let caller = gettid().as_raw_nonzero().get() as u32;
        let start = (0..2).filter(|_| pairing.on_request(caller, Instant::now(), LONG)).count();
        assert_eq!(start, 1);
        thread::scope(|scope| {
            let occupying = scope.spawn(|| {
                pairing.occupy_other_cpu(SHORT);
                sched_getaffinity(None).unwrap().count()
            });
            assert_eq!(occupying.join().unwrap(), 2, "it may run everywhere again");
        });
        assert!(!pairing.is_occupied());
    }

    #[test]
    fn an_affinity_that_another_process_sets_stays() {
        let Some(pairing) = CpuPairing::detect() else { return };
        thread::scope(|scope| {
            let moved = scope.spawn(|| {
                let mut one = CpuSet::new();
                one.set(sched_getcpu());
                sched_setaffinity(None, &one).unwrap();
                let allowed = pairing.affinity.allowed();
                let other = (0..CpuSet::MAX_CPU)
                    .find(|&number| allowed.is_set(number) && !one.is_set(number));
                pairing.move_to(other.unwrap());
                assert_eq!(sched_getaffinity(None).unwrap(), one);
                assert!(!pairing.is_enabled());
                pairing.occupy_other_cpu(SHORT);
                assert_eq!(sched_getaffinity(None).unwrap(), one);
            });
            moved.join().unwrap();
        });
    }
}
