//! Sharing a processor with the caller.
//!
//! A program that waits for each answer and the thread that answers it are never busy at once. On
//! one processor a request takes two switches between them; across two it takes two wake-ups,
//! each of them several times as long where the processor to wake has gone to sleep. Yet the
//! kernel's scheduler sends a thread that wakes to a processor that is idle. So where there are
//! two, the thread that answers goes to the caller's, and while requests follow each other closely
//! another thread of the daemon sits on the other one, which then does not look idle. It pauses most
//! of the time, since two processors are often one core, gives way to all that wants to run there,
//! and leaves where something does. What follows an fsync(2) that took its time is left to the
//! scheduler: a disk may be near to one processor and far from the other.
//!
//! When the daemon's owner says where it may run ([`Affinity`]), sharing ends for good.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{hint, thread};

use rustix::thread::{CpuSet, sched_getcpu};

use crate::sys::{Affinity, processor_of};

/// How often to see whether the caller is still where it was.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Whoever has a processor for so long works there, and was not woken for a moment alone.
const TAKEN: Duration = Duration::from_micros(500);
/// Between two looks at whether somebody else wants the processor.
const PAUSE: Duration = Duration::from_micros(10);
/// For how long the processors are left to whoever took one, or to a disk.
const LEFT_ALONE: Duration = Duration::from_millis(5);
/// In [`Sharing::place`]: it is not known.
const NOWHERE: usize = usize::MAX;

/// What a session's threads know of who asks them, and where that runs.
#[derive(Debug)]
pub(in crate::fuse) struct Sharing {
    affinity: Affinity,
    begun: Instant,
    /// When a request was last taken or answered, in nanoseconds since `begun`.
    last: AtomicU64,
    /// Before when no thread sits, in nanoseconds since `begun`.
    not_before: AtomicU64,
    /// The thread that asked last; 0 after a slow answer.
    caller: AtomicU32,
    /// The caller's processor.
    place: AtomicUsize,
    /// Whether a thread sits on the other processor, or is about to.
    seated: AtomicBool,
}

impl Sharing {
    /// Where there are two processors: of more of them another would still be idle.
    pub(in crate::fuse) fn here() -> Option<Self> {
        let affinity = Affinity::here().filter(|here| here.allowed().count() == 2)?;
        Some(Self {
            affinity,
            begun: Instant::now(),
            last: AtomicU64::new(0),
            not_before: AtomicU64::new(0),
            caller: AtomicU32::new(0),
            place: AtomicUsize::new(NOWHERE),
            seated: AtomicBool::new(false),
        })
    }

    /// Whether nobody else has said where the threads may run.
    pub(in crate::fuse) fn is_on(&self) -> bool {
        !self.affinity.is_overruled()
    }

    /// This thread has taken a request of the thread `caller`, 0 for one of the kernel's own, at `now`.
    /// Returns whether another thread should now [`sit`](Self::sit): where two requests of one
    /// caller follow each other within `limit`.
    pub(in crate::fuse) fn took(&self, caller: u32, now: Instant, limit: Duration) -> bool {
        let now = self.nanoseconds_at(now);
        let since = now.saturating_sub(self.last.swap(now, Ordering::Relaxed));
        if caller == 0 {
            return false;
        }
        let again = self.caller.swap(caller, Ordering::Relaxed) == caller;
        if self.is_seated() {
            self.go_to(self.place.load(Ordering::Relaxed));
            return false;
        }
        let start = again
            && u128::from(since) < limit.as_nanos()
            && now >= self.not_before.load(Ordering::Relaxed);
        self.seated.store(start, Ordering::Relaxed);
        start
    }

    /// This thread has answered at `now`. What a `slow` answer waited for is to find both processors
    /// free, and for longer where that was a disk, which `synced` says.
    pub(in crate::fuse) fn answered(&self, now: Instant, slow: bool, synced: bool) {
        let now = self.nanoseconds_at(now);
        self.last.store(now, Ordering::Relaxed);
        if slow {
            self.caller.store(0, Ordering::Relaxed);
            if synced {
                self.leave_alone(now);
            }
        }
    }

    /// Whether a thread sits on the other processor, or is about to.
    pub(in crate::fuse) fn is_seated(&self) -> bool {
        self.seated.load(Ordering::Relaxed)
    }

    /// The thread that sits is needed elsewhere.
    pub(in crate::fuse) fn rise(&self) {
        self.seated.store(false, Ordering::Relaxed);
    }

    /// Sits on the processor that is not the caller's, until no request came for `limit`, somebody
    /// else takes that processor, or this thread is to [`rise`](Self::rise).
    pub(in crate::fuse) fn sit(&self, limit: Duration) {
        let (mut now, mut look_at) = (self.now(), 0);
        let mut runs_on = *self.affinity.allowed();
        while self.is_seated() && self.is_asked(now, limit) {
            if now >= look_at {
                look_at = now + nanoseconds(LOOK_AGAIN);
                let Some(place) = processor_of(self.caller.load(Ordering::Relaxed)) else { break };
                // One who runs where the daemon may not can't be followed.
                if !self.affinity.allowed().is_set(place) {
                    self.leave_alone(now);
                    break;
                }
                let mut other = *self.affinity.allowed();
                other.unset(place);
                self.change(&mut runs_on, &other);
                self.place.store(place, Ordering::Relaxed);
            }
            while self.now() - now < nanoseconds(PAUSE) {
                hint::spin_loop();
            }
            let before = self.now();
            thread::yield_now();
            now = self.now();
            if now - before > nanoseconds(TAKEN) {
                self.leave_alone(now);
            }
        }
        self.place.store(NOWHERE, Ordering::Relaxed);
        self.rise();
        self.change(&mut runs_on, self.affinity.allowed());
    }

    fn leave_alone(&self, now: u64) {
        self.not_before.store(now + nanoseconds(LEFT_ALONE), Ordering::Relaxed);
        self.rise();
    }

    fn is_asked(&self, now: u64, limit: Duration) -> bool {
        let idle = now.saturating_sub(self.last.load(Ordering::Relaxed));
        u128::from(idle) <= limit.as_nanos()
    }

    /// Moves this thread, which the scheduler may move again.
    fn go_to(&self, place: usize) {
        if place != NOWHERE && place != sched_getcpu() {
            let mut there = CpuSet::new();
            there.set(place);
            let mut runs_on = *self.affinity.allowed();
            self.change(&mut runs_on, &there);
            self.change(&mut runs_on, self.affinity.allowed());
        }
    }

    fn change(&self, runs_on: &mut CpuSet, to: &CpuSet) {
        self.affinity.change(runs_on, to);
        if !self.is_on() {
            self.rise();
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
    fn a_thread_sits_where_one_caller_asks_again_and_is_answered_soon() {
        let Some(sharing) = Sharing::here() else { return };
        assert!(!sharing.took(1, Instant::now(), LONG));
        assert!(!sharing.took(2, Instant::now(), LONG), "another caller");
        sharing.answered(Instant::now(), true, false);
        assert!(!sharing.took(2, Instant::now(), LONG), "after a slow answer");
        assert!(!sharing.took(0, Instant::now(), LONG), "the kernel");
        assert!(!sharing.took(2, Instant::now(), Duration::ZERO), "turned off");
        thread::sleep(SHORT * 2);
        assert!(!sharing.took(2, Instant::now(), SHORT), "late");
        assert!(sharing.took(2, Instant::now(), LONG));
        assert!(!sharing.took(2, Instant::now(), LONG), "one sits already");
        sharing.rise();
        assert!(sharing.took(2, Instant::now(), LONG));
        let begun = Instant::now();
        sharing.answered(Instant::now(), true, true);
        assert!(!sharing.is_seated(), "a disk works");
        let sits = sharing.took(2, Instant::now(), LONG) || sharing.took(2, Instant::now(), LONG);
        assert!(!sits || begun.elapsed() >= LEFT_ALONE, "it may go on");
        sharing.rise();
        thread::sleep(LEFT_ALONE);
        assert!(sharing.took(2, Instant::now(), LONG));
    }

    #[test]
    fn it_sits_beside_the_caller_until_nobody_asks() {
        let Some(sharing) = Sharing::here() else { return };
        let caller = gettid().as_raw_nonzero().get() as u32;
        let start = (0..2).filter(|_| sharing.took(caller, Instant::now(), LONG)).count();
        assert_eq!(start, 1);
        thread::scope(|scope| {
            let sitting = scope.spawn(|| {
                sharing.sit(SHORT);
                sched_getaffinity(None).unwrap().count()
            });
            assert_eq!(sitting.join().unwrap(), 2, "it may run everywhere again");
        });
        assert!(!sharing.is_seated());
    }

    #[test]
    fn what_somebody_else_says_of_the_processors_stays() {
        let Some(sharing) = Sharing::here() else { return };
        thread::scope(|scope| {
            let moved = scope.spawn(|| {
                let mut one = CpuSet::new();
                one.set(sched_getcpu());
                sched_setaffinity(None, &one).unwrap();
                let allowed = sharing.affinity.allowed();
                let other = (0..CpuSet::MAX_CPU)
                    .find(|&number| allowed.is_set(number) && !one.is_set(number));
                sharing.go_to(other.unwrap());
                assert_eq!(sched_getaffinity(None).unwrap(), one);
                assert!(!sharing.is_on());
                sharing.sit(SHORT);
                assert_eq!(sched_getaffinity(None).unwrap(), one);
            });
            moved.join().unwrap();
        });
    }
}
