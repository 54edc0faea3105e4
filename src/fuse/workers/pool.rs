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
//!
//! Where requests are few, or on a disk some were slow lately, two threads read the device: a request
//! that waits for a disk then delays no other, and nothing has to watch for that. In a run of requests
//! one thread reads, and one of those that stand by sees every [`WATCH`] whether it gets on.

use std::cell::Cell;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cpu_pairing::Sharing;

/// An answer that took longer has waited for something: another thread could work meanwhile.
const SLOW: Duration = Duration::from_micros(50);
/// The same where nothing waits for a disk, and a long answer is mostly one of much work.
const SLOW_IN_MEMORY: Duration = Duration::from_micros(200);
/// This many requests on end beside which another waits are more than one thread can do.
const BACKLOG: u32 = 4;
/// Every so many requests a thread sees whether another waits; after one that did, and after a slow
/// answer, with each.
const LOOK_EVERY: u64 = 4;
/// How often a thread that stands by sees whether the others get on. After so long without a
/// request a run of them has ended.
const WATCH: Duration = Duration::from_millis(5);
/// So many requests one after the other are a run.
const RUN: u32 = 32;
/// An answer that took so long has waited for a disk, as the next ones may.
const STALL: Duration = Duration::from_millis(20);
/// For so many requests after a stall another thread is kept ready.
const AFTER_STALL: u32 = 256;
/// So many threads work at once where none waits for a disk: more only wake each other, and each has
/// buffers of its own. For a vault in memory it is at most one more than there are processors.
const ENOUGH: usize = 4;
/// So many threads are kept for requests that wait for nothing: others are handed on.
const KEPT_FREE: usize = 4;

/// The threads of a session that look for requests, and those that stand by.
#[derive(Debug)]
pub(in crate::fuse) struct Lookout {
    device: OwnedFd,
    /// How many threads the session has.
    threads: usize,
    /// [`ENOUGH`], or less for a vault in memory.
    enough: usize,
    /// [`WATCH`], other than in tests.
    watch: Duration,
    /// Nothing waits for a disk.
    in_memory: bool,
    /// How long to look before sleeping, in nanoseconds.
    limit: AtomicU64,
    /// Whether a thread looks, of which there is need of one.
    looking: AtomicBool,
    /// What there is instead of looking, on two processors.
    sharing: Option<Sharing>,
    crew: Mutex<Crew>,
    /// Whether to see, with the next request, if another waits.
    is_to_look: AtomicBool,
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
    /// Threads that stand by and sleep: the one that worked last, which is at the end, is woken
    /// first, since its stack and its buffers are still in the processor's cache.
    asleep: Vec<Arc<Condvar>>,
    /// Of those, how many are to go back to work.
    called: usize,
    watch: Watch,
    /// Threads that are at a request.
    busy: usize,
    /// Requests taken.
    taken: u64,
    /// When the last one was.
    last: Option<Instant>,
    /// How many followed each other.
    run: u32,
    /// For how many requests more another thread is kept ready.
    stalled: u32,
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
    fn note(&mut self, caller: u32, now: Instant, waits: bool) -> bool {
        self.taken += 1;
        self.busy += 1;
        let follows = self.last.is_some_and(|last| now.saturating_duration_since(last) <= WATCH);
        self.run = if follows { self.run.saturating_add(1) } else { 0 };
        self.last = Some(now);
        self.stalled = self.stalled.saturating_sub(1);
        self.backlog = if waits { self.backlog + 1 } else { 0 };
        let is_other = caller == 0 || caller != self.caller;
        if caller != 0 {
            self.caller = caller;
        }
        let held_up = std::mem::take(&mut self.held_up) && is_other;
        held_up || self.backlog >= BACKLOG || waits && self.slow
    }

    /// Whether it may matter if another request waits beside the next one.
    fn is_to_look(&self) -> bool {
        self.slow || self.backlog > 0 || self.taken.is_multiple_of(LOOK_EVERY)
    }
}

/// Says when its thread ends.
struct Member(Arc<Lookout>);

impl Drop for Member {
    fn drop(&mut self) {
        let mut crew = self.0.crew.lock();
        crew.ended = true;
        let asleep = std::mem::take(&mut crew.asleep);
        drop(crew);
        asleep.iter().for_each(|thread| _ = thread.notify_one());
        self.0.stir.notify_all();
    }
}

thread_local! {
    static MEMBER: Cell<Option<Member>> = const { Cell::new(None) };
}

impl Lookout {
    /// For the `device` of a session that has so many threads, and whose vault may be `in_memory`; a
    /// thread looks for at most `limit` before it sleeps, and zero is never. Where there is `sharing`,
    /// a processor is shared for as long instead.
    pub(in crate::fuse) fn new(
        device: OwnedFd,
        threads: usize,
        in_memory: bool,
        limit: Duration,
        sharing: Option<Sharing>,
    ) -> Arc<Self> {
        let processors = available_parallelism().map_or(1, NonZero::get);
        let lookout = Self {
            device,
            threads,
            enough: if in_memory { ENOUGH.min(processors + 1) } else { ENOUGH },
            watch: WATCH,
            in_memory,
            limit: AtomicU64::new(0),
            looking: AtomicBool::new(false),
            sharing,
            crew: Mutex::default(),
            is_to_look: AtomicBool::new(true),
            stir: Condvar::new(),
        };
        lookout.set_limit(limit);
        Arc::new(lookout)
    }

    /// Changes for how long.
    pub(in crate::fuse) fn set_limit(&self, limit: Duration) {
        let nanoseconds = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.limit.store(nanoseconds, Ordering::Relaxed);
    }

    /// For how long.
    pub(in crate::fuse) fn limit(&self) -> Duration {
        Duration::from_nanos(self.limit.load(Ordering::Relaxed))
    }

    /// This thread has taken a request of the thread `caller`, 0 for one of the kernel's own.
    /// Where `may_sit`, a thread may sit beside it. Returns whether hardly any thread is left for others.
    pub(in crate::fuse) fn took(
        self: &Arc<Self>,
        caller: u32,
        may_sit: bool,
        now: Instant,
    ) -> bool {
        let known = MEMBER.take();
        let is_new = known.is_none();
        MEMBER.set(known.or_else(|| Some(Member(Arc::clone(self)))));
        // A system call takes too long to be made under the lock.
        let waits = self.is_to_look.load(Ordering::Relaxed) && self.request_waits();
        let mut crew = self.crew.lock();
        if !is_new {
            crew.ready -= 1;
        }
        let is_much = crew.note(caller, now, waits);
        let is_run = self.is_run(&crew);
        let is_spare = crew.standing_by > crew.called;
        // In a run, and where enough work, the one that watches calls; else somebody must be there
        // at once.
        let may_call = crew.busy + crew.called < self.enough || crew.stalled > 0;
        let is_missed = is_much || !is_run && crew.called == 0;
        let call = is_spare && crew.ready == 0 && may_call && is_missed;
        if call {
            crew.called += 1;
        }
        // Where there is work for both processors none is to be sat on.
        let is_backlog = crew.backlog >= BACKLOG;
        if call || is_backlog {
            self.sharing().into_iter().for_each(Sharing::rise);
        }
        let sit = !call
            && !is_backlog
            && may_sit
            && is_spare
            && is_run
            && self.sharing().is_some_and(|sharing| sharing.took(caller, now, self.limit()));
        let watched = crew.watch == Watch::Kept;
        let watch = crew.watch == Watch::Off && is_spare && (sit || !call && crew.ready == 0);
        if watch {
            crew.watch = Watch::Wanted;
        }
        let is_short = crew.busy + KEPT_FREE > self.threads;
        self.is_to_look.store(crew.is_to_look(), Ordering::Relaxed);
        // The one that watches may as well work.
        let woken = if call && !watched || watch { crew.asleep.pop() } else { None };
        drop(crew);
        if call || sit {
            self.stir.notify_one();
        }
        woken.iter().for_each(|thread| _ = thread.notify_one());
        is_short
    }

    /// This thread has answered a request that it took at `taken`, or has handed it on. Returns when
    /// it should read the device.
    pub(in crate::fuse) fn answered(&self, taken: Instant, synced: bool) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(taken);
        let slow = elapsed > if self.in_memory { SLOW_IN_MEMORY } else { SLOW };
        let held_up = slow && self.request_waits();
        let mut crew = self.crew.lock();
        (crew.slow, crew.held_up) = (slow, held_up);
        self.is_to_look.store(crew.is_to_look(), Ordering::Relaxed);
        crew.busy -= 1;
        if elapsed >= STALL && !self.in_memory {
            crew.stalled = AFTER_STALL;
        }
        let enough = if self.is_run(&crew) { 1 } else { 2 };
        let is_idle = crew.ready >= enough && crew.backlog < BACKLOG && !held_up;
        // However many requests wait, in a run none of the others has waited long.
        let is_too_many =
            crew.run >= RUN && crew.stalled == 0 && crew.ready + crew.busy >= self.enough;
        if is_idle || is_too_many {
            self.stand_by(&mut crew);
        }
        crew.ready += 1;
        drop(crew);
        match self.sharing() {
            Some(sharing) => sharing.answered(now, slow, synced),
            // After a slow answer the processor belongs to what it waited for.
            None if slow => {}
            None => self.look(),
        }
    }

    /// A request that another thread had taken over, to have something synced, was answered.
    pub(in crate::fuse) fn synced(&self) {
        let answered = |sharing: &Sharing| sharing.answered(Instant::now(), true, true);
        self.sharing().into_iter().for_each(answered);
    }

    /// Whether one thread is to read the device, and not two.
    fn is_run(&self, crew: &Crew) -> bool {
        crew.run >= RUN && (self.in_memory || crew.stalled == 0)
    }

    fn sharing(&self) -> Option<&Sharing> {
        self.sharing.as_ref().filter(|sharing| sharing.is_on())
    }

    /// Waits until this thread is needed.
    fn stand_by(&self, crew: &mut MutexGuard<'_, Crew>) {
        let wake = Arc::new(Condvar::new());
        crew.standing_by += 1;
        // Those that work may be held up, and nobody reads the device then.
        if crew.ready == 0 && crew.watch == Watch::Off {
            crew.watch = Watch::Wanted;
        }
        while crew.called == 0 && !crew.ended {
            match crew.watch {
                Watch::Off | Watch::Kept => {
                    crew.asleep.push(Arc::clone(&wake));
                    wake.wait(crew);
                }
                Watch::Wanted => self.watch(crew),
            }
        }
        crew.called = crew.called.saturating_sub(1);
        crew.standing_by -= 1;
        // This one reads the device now: if it is held up, too, another will be wanted.
        if crew.watch == Watch::Wanted {
            crew.watch = Watch::Off;
        }
    }

    /// Sits for as long as that is wanted, or sees once whether the others get on.
    fn watch(&self, crew: &mut MutexGuard<'_, Crew>) {
        crew.watch = Watch::Kept;
        let taken = crew.taken;
        let seat = self.sharing().filter(|sharing| sharing.is_seated());
        let timed_out = match seat {
            Some(sharing) => {
                MutexGuard::unlocked(crew, || sharing.sit(self.limit()));
                false
            }
            None => self.stir.wait_for(crew, self.watch).timed_out(),
        };
        crew.watch = Watch::Wanted;
        if !timed_out || crew.taken != taken {
            return;
        }
        // Nothing was taken for a while: for want of requests, or of threads.
        match crew.ready {
            0 => {
                crew.called += 1;
                crew.stalled = AFTER_STALL;
            }
            1 => {
                crew.called += 1;
                crew.watch = Watch::Off;
            }
            _ => crew.watch = Watch::Off,
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
    use std::sync::LazyLock;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, JoinHandle};

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    /// Longer than a thread takes to see that it is needed.
    const LONG: Duration = Duration::from_secs(10);
    /// Long enough for a thread that should not go on to do so all the same.
    const A_WHILE: Duration = Duration::from_millis(100);

    /// A device on which a request waits when told, and a session of `threads` threads.
    fn lookout(threads: usize, watch: Duration) -> (Arc<Lookout>, OwnedFd) {
        let device = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let lookout =
            Lookout::new(device.try_clone().unwrap(), threads, false, Duration::ZERO, None);
        let mut lookout = Arc::into_inner(lookout).unwrap();
        lookout.watch = watch;
        (Arc::new(lookout), device)
    }

    /// From now on requests follow each other, to the lookout.
    fn begin_run(lookout: &Lookout) {
        let mut crew = lookout.crew.lock();
        (crew.run, crew.last) = (RUN, Some(Instant::now() + LONG));
    }

    /// A run in a vault in memory, where `enough` threads work at once.
    fn run_in_memory(threads: usize, watch: Duration, enough: usize) -> (Arc<Lookout>, OwnedFd) {
        let (lookout, device) = lookout(threads, watch);
        let mut lookout = Arc::into_inner(lookout).unwrap();
        (lookout.enough, lookout.in_memory) = (enough, true);
        begin_run(&lookout);
        (Arc::new(lookout), device)
    }

    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

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
                    // To the lookout one request follows the other, however slow this test is.
                    let short = lookout.took(0, true, *NOW);
                    assert_eq!(short, lookout.crew.lock().busy + KEPT_FREE > lookout.threads);
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

    /// Ends all: whichever stands by goes when another one does.
    fn end(hands: Vec<Hand>) {
        let split = |hand: Hand| (hand.steps, (hand.ready, hand.thread));
        let (steps, rest): (Vec<_>, Vec<_>) = hands.into_iter().map(split).unzip();
        drop(steps);
        for (_ready, thread) in rest {
            thread.join().unwrap();
        }
    }

    /// `hands` of which the first `ready` read the device and the others stand by.
    fn hands(lookout: &Arc<Lookout>, ready: usize, hands: usize) -> Vec<Hand> {
        let hands: Vec<_> = (0..hands).map(|_| Hand::of(lookout)).collect();
        for (number, hand) in hands.iter().enumerate() {
            hand.take();
            hand.answer();
            let time = if number < ready { LONG } else { A_WHILE };
            assert_eq!(hand.is_ready_within(time), number < ready, "thread {number}");
        }
        hands
    }

    #[test]
    fn threads_without_work_stand_by_until_the_session_ends() {
        let (lookout, _device) = lookout(3, WATCH);
        let mut hands = hands(&lookout, 2, 3);
        hands.remove(0).end();
        assert!(hands[1].is_ready_within(LONG));
        end(hands);
    }

    #[test]
    fn another_is_called_as_soon_as_nobody_reads_the_device() {
        let (lookout, _device) = lookout(4, LONG);
        let hands = hands(&lookout, 2, 4);
        hands[0].take();
        assert!(!hands[2].is_ready_within(A_WHILE) && !hands[3].is_ready_within(A_WHILE));
        hands[1].take();
        let called = wait_for_one(&hands[2..]) + 2;
        let left = 5 - called;
        assert!(!hands[left].is_ready_within(A_WHILE), "one is enough");
        hands[called].take();
        assert!(hands[left].is_ready_within(LONG));
        [0, 1, called].into_iter().for_each(|number| hands[number].answer());
        end(hands);
    }

    /// The number of the first that is ready.
    fn wait_for_one(hands: &[Hand]) -> usize {
        let begun = Instant::now();
        loop {
            let ready = hands.iter().position(|hand| hand.is_ready_within(WATCH));
            if let Some(ready) = ready {
                return ready;
            }
            assert!(begun.elapsed() < LONG, "nobody steps in");
        }
    }

    #[test]
    fn in_a_run_one_reads_and_another_steps_in_when_it_is_held_up() {
        let (lookout, _device) = lookout(2, WATCH * 40);
        begin_run(&lookout);
        let hands: Vec<_> = (0..2).map(|_| Hand::of(&lookout)).collect();
        hands[0].take();
        hands[0].answer();
        assert!(hands[0].is_ready_within(LONG));
        hands[1].take();
        hands[1].answer();
        assert!(!hands[1].is_ready_within(A_WHILE));
        hands[0].take();
        assert!(hands[1].is_ready_within(LONG));
        assert_eq!(lookout.crew.lock().stalled, AFTER_STALL);
        hands[0].answer();
        end(hands);
    }

    #[test]
    fn after_a_run_two_read_the_device_again() {
        let (lookout, _device) = lookout(2, WATCH);
        begin_run(&lookout);
        let hands: Vec<_> = (0..2).map(|_| Hand::of(&lookout)).collect();
        hands[0].take();
        hands[0].answer();
        assert!(hands[0].is_ready_within(LONG));
        hands[1].take();
        hands[1].answer();
        assert!(!hands[1].is_ready_within(A_WHILE));
        hands[0].take();
        hands[0].answer();
        assert!(hands[0].is_ready_within(LONG));
        assert!(hands[1].is_ready_within(LONG));
        assert_eq!(lookout.crew.lock().watch, Watch::Off);
        end(hands);
    }

    #[test]
    fn however_many_requests_wait_no_more_threads_work_than_are_enough() {
        let (lookout, device) = run_in_memory(6, LONG, 3);
        rustix::io::write(&device, &1_u64.to_ne_bytes()).unwrap();
        let hands: Vec<_> = (0..6).map(|_| Hand::of(&lookout)).collect();
        hands.iter().for_each(Hand::take);
        assert!(lookout.crew.lock().backlog >= BACKLOG);
        for (number, hand) in hands.iter().enumerate() {
            hand.answer();
            let time = if number < 3 { A_WHILE } else { LONG };
            assert_eq!(hand.is_ready_within(time), number >= 3, "thread {number}");
        }
        end(hands);
    }

    #[test]
    fn when_all_that_work_are_held_up_another_reads_the_device_and_goes_on_doing_so() {
        let (lookout, _device) = run_in_memory(3, WATCH, 1);
        let hands: Vec<_> = (0..2).map(|_| Hand::of(&lookout)).collect();
        hands.iter().for_each(Hand::take);
        hands[0].answer();
        assert!(hands[0].is_ready_within(LONG));
        hands[0].take();
        hands[0].answer();
        assert!(hands[0].is_ready_within(LONG));
        // It did not stand by in between.
        assert_eq!(lookout.crew.lock().stalled, AFTER_STALL - 1);
        hands[1].answer();
        end(hands);
    }

    #[test]
    fn a_thread_that_stands_by_is_called_when_requests_wait() {
        let (lookout, device) = lookout(2, LONG);
        begin_run(&lookout);
        let hands: Vec<_> = (0..2).map(|_| Hand::of(&lookout)).collect();
        hands[0].take();
        hands[0].answer();
        assert!(hands[0].is_ready_within(LONG));
        hands[1].take();
        hands[1].answer();
        assert!(!hands[1].is_ready_within(A_WHILE));
        rustix::io::write(&device, &1_u64.to_ne_bytes()).unwrap();
        // Sooner where this test is slow, as an answer then is: the first may be the one that stands by.
        let is_called = (0..u64::from(BACKLOG) + LOOK_EVERY).any(|_| {
            hands[0].take();
            hands[0].answer();
            wait_for_one(&hands) == 1
        });
        assert!(is_called || hands[1].is_ready_within(LONG));
        end(hands);
    }
}
