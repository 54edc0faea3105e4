//! Looking out for the next request.
//!
//! Two things keep a wake-up out of the way of a program that asks one thing after another. A
//! thread that has answered looks for the next request a moment before it sleeps, since that is
//! often a few microseconds away and to wake a processor takes longer; on two processors it shares
//! one with the caller instead, which is better still ([`Sharing`]). And threads without work
//! stand by here rather than in a read of the device, where the kernel would wake one for each
//! request, though another is looking for it already. They are called when requests have to
//! wait, and step in by themselves when all others are held up, so that an answer may depend on
//! another request's.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::sharing::Sharing;

/// An answer that took longer has waited for something: another thread could work meanwhile.
const SLOW: Duration = Duration::from_micros(50);
/// This many requests on end beside which another waits are more than one thread can do.
const BACKLOG: u32 = 4;
/// How often a thread that stands by sees whether the others get on.
const WATCH: Duration = Duration::from_millis(5);

/// The threads of a session that look for requests, and those that stand by.
#[derive(Debug)]
pub(super) struct Lookout {
    device: OwnedFd,
    /// How long to look before sleeping, in nanoseconds.
    limit: AtomicU64,
    /// Whether a thread looks, of which there is need of one.
    looking: AtomicBool,
    /// What there is instead of looking, on two processors.
    sharing: Option<Sharing>,
    crew: Mutex<Crew>,
    /// A thread is to work, or to watch.
    call: Condvar,
    /// There is something to do for the thread that watches.
    stir: Condvar,
}

/// Whether one of the threads that stand by sees to it that the others get on.
#[derive(Debug, Default, PartialEq, Eq)]
enum Watch {
    /// There is nothing to see, since nothing happens.
    #[default]
    Off,
    /// One of them is to.
    Wanted,
    /// One does.
    Kept,
}

/// Who does what.
#[derive(Debug, Default)]
struct Crew {
    /// Threads that will take the next request, of those that have taken one before.
    ready: usize,
    standing_by: usize,
    /// Of those, how many are to go back to work.
    called: usize,
    watch: Watch,
    /// Requests taken.
    taken: u64,
    /// Requests on end beside which another waited.
    backlog: u32,
    /// Whether the last answer was slow.
    slow: bool,
    /// Whether one waited when it was given.
    held_up: bool,
    /// The thread that asked last, of those of programs.
    caller: u32,
    /// A thread is gone, which happens only when the mount is.
    ended: bool,
}

impl Crew {
    /// Notes a request of `caller` that was taken while another waited, or none. Returns whether
    /// that is more than one thread should do.
    fn note(&mut self, caller: u32, waits: bool) -> bool {
        self.taken += 1;
        self.backlog = if waits { self.backlog + 1 } else { 0 };
        let is_other = caller == 0 || caller != self.caller;
        if caller != 0 {
            self.caller = caller;
        }
        let held_up = std::mem::take(&mut self.held_up) && is_other;
        held_up || self.backlog >= BACKLOG || waits && self.slow
    }
}

/// Says when its thread ends.
struct Member(Arc<Lookout>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.crew.lock().ended = true;
        self.0.call.notify_all();
        self.0.stir.notify_all();
    }
}

thread_local! {
    static MEMBER: Cell<Option<Member>> = const { Cell::new(None) };
}

impl Lookout {
    /// For a session's `device`; a thread looks for at most `limit` before it sleeps, and zero
    /// is never. Where there is `sharing`, a processor is shared for as long instead.
    pub(super) fn new(device: OwnedFd, limit: Duration, sharing: Option<Sharing>) -> Arc<Self> {
        let lookout = Self {
            device,
            limit: AtomicU64::new(0),
            looking: AtomicBool::new(false),
            sharing,
            crew: Mutex::default(),
            call: Condvar::new(),
            stir: Condvar::new(),
        };
        lookout.set_limit(limit);
        Arc::new(lookout)
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

    /// This thread has taken a request of the thread `caller`, 0 for one of the kernel's own.
    pub(super) fn took(self: &Arc<Self>, caller: u32) {
        let known = MEMBER.take();
        let is_new = known.is_none();
        MEMBER.set(known.or_else(|| Some(Member(Arc::clone(self)))));
        let waits = self.request_waits();
        let mut crew = self.crew.lock();
        if !is_new {
            crew.ready -= 1;
        }
        let is_much = crew.note(caller, waits);
        let is_spare = crew.standing_by > crew.called;
        let call = is_much && is_spare && crew.ready == 0;
        if call {
            crew.called += 1;
            self.sharing.iter().for_each(Sharing::rise);
        }
        let sit = !call
            && is_spare
            && self.sharing.as_ref().is_some_and(|sharing| sharing.took(caller, self.limit()));
        let watch = is_spare && crew.watch == Watch::Off;
        if watch {
            crew.watch = Watch::Wanted;
        }
        drop(crew);
        if call || sit {
            self.stir.notify_one();
        }
        if call || watch {
            self.call.notify_one();
        }
    }

    /// This thread has answered a request that it took at `taken`, and which asked to have something
    /// `synced`, or not. Returns when it should read the device.
    pub(super) fn answered(&self, taken: Instant, synced: bool) {
        let slow = taken.elapsed() > SLOW;
        let held_up = slow && self.request_waits();
        let mut crew = self.crew.lock();
        (crew.slow, crew.held_up) = (slow, held_up);
        if crew.ready > 0 && crew.backlog < BACKLOG && !held_up {
            self.stand_by(&mut crew);
        }
        crew.ready += 1;
        drop(crew);
        match &self.sharing {
            Some(sharing) => sharing.answered(slow, synced),
            // After a slow answer the processor belongs to what it waited for.
            None if slow => {}
            None => self.look(),
        }
    }

    /// Waits until this thread is needed.
    fn stand_by(&self, crew: &mut MutexGuard<'_, Crew>) {
        crew.standing_by += 1;
        while crew.called == 0 && !crew.ended {
            match crew.watch {
                Watch::Kept => self.call.wait(crew),
                Watch::Off | Watch::Wanted => self.watch(crew),
            }
        }
        crew.called = crew.called.saturating_sub(1);
        crew.standing_by -= 1;
        if crew.watch == Watch::Wanted && crew.standing_by > 0 {
            self.call.notify_one();
        }
    }

    /// Sits for as long as that is wanted, or sees once whether the others get on.
    fn watch(&self, crew: &mut MutexGuard<'_, Crew>) {
        crew.watch = Watch::Kept;
        let taken = crew.taken;
        let seat = self.sharing.as_ref().filter(|sharing| sharing.is_seated());
        let timed_out = match seat {
            Some(sharing) => {
                MutexGuard::unlocked(crew, || sharing.sit(self.limit()));
                false
            }
            None => self.stir.wait_for(crew, WATCH).timed_out(),
        };
        crew.watch = Watch::Wanted;
        if !timed_out || crew.taken != taken {
            return;
        }
        // Nothing was taken for a while: for want of requests, or of threads.
        if crew.ready == 0 {
            crew.called += 1;
        } else {
            crew.watch = Watch::Off;
            self.call.wait(crew);
        }
    }

    /// Returns when a request is there, the time is up, or another thread looks already.
    fn look(&self) {
        let limit = self.limit();
        if limit.is_zero() || self.looking.swap(true, Ordering::Acquire) {
            return;
        }
        let begun = Instant::now();
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, JoinHandle};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    /// Longer than a thread takes to see that it is needed.
    const LONG: Duration = Duration::from_secs(10);
    /// Long enough for a thread that should not go on to do so all the same.
    const A_WHILE: Duration = Duration::from_millis(100);

    /// A device on which a request waits when told.
    fn lookout() -> (Arc<Lookout>, OwnedFd) {
        let device = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        (Lookout::new(device.try_clone().unwrap(), Duration::ZERO, None), device)
    }

    /// A thread that takes a request when told, answers it when told, and tells when it is ready.
    struct Hand {
        steps: Sender<()>,
        ready: Receiver<()>,
        thread: JoinHandle<()>,
    }

    impl Hand {
        fn of(lookout: &Arc<Lookout>) -> Self {
            let (steps, told) = channel();
            let (tell, ready) = channel();
            let lookout = Arc::clone(lookout);
            let thread = thread::spawn(move || {
                while told.recv().is_ok() {
                    lookout.took(0);
                    tell.send(()).unwrap();
                    told.recv().unwrap();
                    lookout.answered(Instant::now(), false);
                    tell.send(()).unwrap();
                }
            });
            Self { steps, ready, thread }
        }

        fn take(&self) {
            self.steps.send(()).unwrap();
            self.ready.recv_timeout(LONG).unwrap();
        }

        fn answer(&self) {
            self.steps.send(()).unwrap();
        }

        fn is_ready_within(&self, time: Duration) -> bool {
            self.ready.recv_timeout(time).is_ok()
        }

        fn end(self) {
            drop(self.steps);
            self.thread.join().unwrap();
        }
    }

    #[test]
    fn a_thread_without_work_stands_by_until_the_session_ends() {
        let (lookout, _device) = lookout();
        let (first, second) = (Hand::of(&lookout), Hand::of(&lookout));
        first.take();
        first.answer();
        assert!(first.is_ready_within(LONG));
        second.take();
        second.answer();
        assert!(!second.is_ready_within(A_WHILE));
        first.end();
        assert!(second.is_ready_within(LONG));
        second.end();
    }

    #[test]
    fn a_thread_that_stands_by_steps_in_when_the_other_is_held_up() {
        let (lookout, _device) = lookout();
        let (first, second) = (Hand::of(&lookout), Hand::of(&lookout));
        first.take();
        first.answer();
        assert!(first.is_ready_within(LONG));
        second.take();
        second.answer();
        assert!(!second.is_ready_within(A_WHILE));
        first.take();
        assert!(second.is_ready_within(LONG));
        first.answer();
        second.end();
        assert!(first.is_ready_within(LONG));
        first.end();
    }

    #[test]
    fn all_that_stand_by_step_in_one_after_the_other() {
        let (lookout, _device) = lookout();
        let hands: Vec<_> = (0..3).map(|_| Hand::of(&lookout)).collect();
        for (number, hand) in hands.iter().enumerate() {
            hand.take();
            hand.answer();
            assert_eq!(hand.is_ready_within(if number == 0 { LONG } else { A_WHILE }), number == 0);
        }
        let mut left: Vec<_> = hands.iter().skip(1).collect();
        hands[0].take();
        while !left.is_empty() {
            let begun = Instant::now();
            let ready = loop {
                let ready = left.iter().position(|hand| hand.is_ready_within(WATCH));
                assert!(begun.elapsed() < LONG, "nobody steps in");
                if let Some(ready) = ready {
                    break ready;
                }
            };
            assert!(!left.iter().any(|hand| hand.is_ready_within(A_WHILE)), "one is enough");
            left.remove(ready).take();
        }
        hands.iter().for_each(Hand::answer);
        let (ready, standing_by): (Vec<_>, Vec<_>) =
            hands.into_iter().partition(|hand| hand.is_ready_within(A_WHILE));
        assert_eq!(ready.len(), 1);
        ready.into_iter().chain(standing_by).for_each(Hand::end);
    }

    #[test]
    fn a_thread_that_stands_by_is_called_when_requests_wait() {
        let (lookout, device) = lookout();
        let (first, second) = (Hand::of(&lookout), Hand::of(&lookout));
        first.take();
        first.answer();
        assert!(first.is_ready_within(LONG));
        second.take();
        second.answer();
        assert!(!second.is_ready_within(A_WHILE));
        rustix::io::write(&device, &1_u64.to_ne_bytes()).unwrap();
        for _ in 0..BACKLOG {
            first.take();
            first.answer();
            assert!(first.is_ready_within(LONG));
        }
        assert!(second.is_ready_within(LONG));
        first.end();
        second.end();
    }
}
