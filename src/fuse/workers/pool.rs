//! The threads of a session that read the device, and those that stand by.

use std::cell::Cell;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::busy_poll::BusyPoller;
use super::cpu_pairing::{CpuPairing, ReplyKind};
use super::state::{PoolState, RUN_THRESHOLD, STALL_REQUESTS, WATCHDOG_INTERVAL, Watchdog};

/// A reply that took longer has waited for something: another thread could work meanwhile.
const SLOW_REPLY: Duration = Duration::from_micros(50);
/// The same where nothing waits for a disk, and a long reply is mostly one of much work.
const SLOW_REPLY_IN_MEMORY: Duration = Duration::from_micros(200);
/// A reply that took so long has waited for a disk, as the next ones may.
const STALL: Duration = Duration::from_millis(20);
/// Threads at most that work at once while none waits for a disk: more only wake each other, and each
/// has buffers of its own. For a vault in memory it is at most one more than there are processors.
const MAX_BUSY: usize = 4;
/// Threads that are kept for requests that wait for nothing: when fewer are left, others are handed on.
const RESERVED_THREADS: usize = 4;

/// How a pool works.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// How many threads the session has.
    pub threads: usize,
    /// The vault is on no disk: nothing waits for one.
    pub in_memory: bool,
    /// How long a thread polls for the next request, or occupies the other CPU for it; zero for never.
    pub busy_poll: Duration,
}

/// Who made a request.
#[derive(Debug, Clone, Copy)]
pub struct Requester {
    /// The thread; 0 for one of the kernel's own.
    pub thread: u32,
    /// Whether its CPU may be looked up. /proc/PID/stat waits for as long as its process likes, so it is
    /// read of the daemon's own user alone.
    pub may_pair: bool,
}

/// The threads of a session. The module's documentation has their states.
#[derive(Debug)]
pub struct WorkerPool {
    settings: PoolSettings,
    /// [`MAX_BUSY`], or less for a vault in memory.
    max_busy: usize,
    /// [`WATCHDOG_INTERVAL`], other than in tests.
    watchdog_interval: Duration,
    busy_poller: BusyPoller,
    /// Used instead of polling, on two processors.
    pairing: Option<CpuPairing>,
    state: Mutex<PoolState>,
    /// Whether to check, at the next request, if another one is queued.
    checks_queue: AtomicBool,
    /// Wakes the watchdog. A parked thread has a condition variable of its own, in
    /// [`PoolState::parked`].
    watchdog_wake: Condvar,
}

/// Tells the pool when its thread ends.
struct WorkerGuard(Arc<WorkerPool>);

impl Drop for WorkerGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        let parked = std::mem::take(&mut state.parked);
        drop(state);
        parked.iter().for_each(|worker_wake| _ = worker_wake.notify_one());
        self.0.watchdog_wake.notify_all();
    }
}

thread_local! {
    static WORKER: Cell<Option<WorkerGuard>> = const { Cell::new(None) };
}

impl WorkerPool {
    /// For the session on `device`. Where there is `pairing`, it is used instead of polling.
    pub fn new(device: OwnedFd, settings: PoolSettings, pairing: Option<CpuPairing>) -> Arc<Self> {
        let processors = available_parallelism().map_or(1, NonZero::get);
        Arc::new(Self {
            settings,
            max_busy: if settings.in_memory { MAX_BUSY.min(processors + 1) } else { MAX_BUSY },
            watchdog_interval: WATCHDOG_INTERVAL,
            busy_poller: BusyPoller::new(device, settings.busy_poll),
            pairing,
            state: Mutex::default(),
            checks_queue: AtomicBool::new(true),
            watchdog_wake: Condvar::new(),
        })
    }

    /// What waits for the next request while it is not slept for.
    pub fn busy_poller(&self) -> &BusyPoller {
        &self.busy_poller
    }

    /// This thread has taken a request of `requester` at `now`. Returns whether hardly any thread is left
    /// for others.
    pub fn on_request(self: &Arc<Self>, requester: Requester, now: Instant) -> bool {
        let Requester { thread: caller, may_pair } = requester;
        let known = WORKER.take();
        let is_new = known.is_none();
        WORKER.set(known.or_else(|| Some(WorkerGuard(Arc::clone(self)))));
        // A system call takes too long to be made under the lock.
        let waits = self.checks_queue.load(Ordering::Relaxed) && self.busy_poller.has_request();
        let mut state = self.state.lock();
        if !is_new {
            state.reading -= 1;
        }
        let is_much = state.note_request(caller, now, waits);
        let is_run = self.is_run(&state);
        let has_spare = state.standing_by > state.pending_wakes;
        // In a run, and where enough threads work, the watchdog wakes one when it must. Otherwise one
        // has to read the device at once.
        let may_wake = state.busy + state.pending_wakes < self.max_busy || state.stalled > 0;
        let is_needed = is_much || !is_run && state.pending_wakes == 0;
        let wakes_worker = has_spare && state.reading == 0 && may_wake && is_needed;
        if wakes_worker {
            state.pending_wakes += 1;
        }
        // Where there is work for both CPUs none is to be kept occupied.
        let is_backlogged = state.is_backlogged();
        if wakes_worker || is_backlogged {
            self.pairing().into_iter().for_each(CpuPairing::release);
        }
        let occupies = !wakes_worker
            && !is_backlogged
            && may_pair
            && has_spare
            && is_run
            && self
                .pairing()
                .is_some_and(|pairing| pairing.on_request(caller, now, self.busy_poller.limit()));
        let watchdog_runs = state.watchdog == Watchdog::Running;
        let starts_watchdog = state.watchdog == Watchdog::Off
            && has_spare
            && (occupies || !wakes_worker && state.reading == 0);
        if starts_watchdog {
            state.watchdog = Watchdog::Wanted;
        }
        let is_short = state.busy + RESERVED_THREADS > self.settings.threads;
        self.checks_queue.store(state.checks_queue(), Ordering::Relaxed);
        // The watchdog may as well be the one that works.
        let unparks = wakes_worker && !watchdog_runs || starts_watchdog;
        let worker_wake = if unparks { state.parked.pop() } else { None };
        drop(state);
        if wakes_worker || occupies {
            self.watchdog_wake.notify_one();
        }
        worker_wake.iter().for_each(|worker_wake| _ = worker_wake.notify_one());
        is_short
    }

    /// This thread has answered a request that it took at `taken`, or has handed it on; `synced` says
    /// that the request was for something to become durable. Returns when it should read the device.
    pub fn on_reply(&self, taken: Instant, synced: bool) {
        let now = Instant::now();
        let elapsed = now.saturating_duration_since(taken);
        let in_memory = self.settings.in_memory;
        let is_slow = elapsed > if in_memory { SLOW_REPLY_IN_MEMORY } else { SLOW_REPLY };
        let was_held_up = is_slow && self.busy_poller.has_request();
        let mut state = self.state.lock();
        (state.was_slow, state.was_held_up) = (is_slow, was_held_up);
        self.checks_queue.store(state.checks_queue(), Ordering::Relaxed);
        state.busy -= 1;
        if elapsed >= STALL && !in_memory {
            state.stalled = STALL_REQUESTS;
        }
        let readers = if self.is_run(&state) { 1 } else { 2 };
        let is_idle = state.reading >= readers && !state.is_backlogged() && !was_held_up;
        // However many requests wait, in a run none of the others has waited long.
        let is_too_many = state.run >= RUN_THRESHOLD
            && state.stalled == 0
            && state.reading + state.busy >= self.max_busy;
        if is_idle || is_too_many {
            self.stand_by(&mut state);
        }
        state.reading += 1;
        drop(state);
        match self.pairing() {
            Some(pairing) => pairing.on_reply(now, ReplyKind::of(is_slow, synced)),
            // After a slow reply the processor belongs to what the reply waited for.
            None if is_slow => {}
            None => self.busy_poller.poll(),
        }
    }

    /// A sync that was handed on to another thread was answered.
    pub fn on_handed_on_sync(&self) {
        let on_reply = |pairing: &CpuPairing| pairing.on_reply(Instant::now(), ReplyKind::SlowSync);
        self.pairing().into_iter().for_each(on_reply);
    }

    /// Whether one thread is to read the device, and not two.
    fn is_run(&self, state: &PoolState) -> bool {
        state.run >= RUN_THRESHOLD && (self.settings.in_memory || state.stalled == 0)
    }

    fn pairing(&self) -> Option<&CpuPairing> {
        self.pairing.as_ref().filter(|pairing| pairing.is_enabled())
    }

    /// Waits until this thread is needed.
    fn stand_by(&self, state: &mut MutexGuard<'_, PoolState>) {
        let worker_wake = Arc::new(Condvar::new());
        state.standing_by += 1;
        // All threads that work may be held up, and none reads the device then.
        if state.reading == 0 && state.watchdog == Watchdog::Off {
            state.watchdog = Watchdog::Wanted;
        }
        while state.pending_wakes == 0 && !state.ended {
            match state.watchdog {
                Watchdog::Off | Watchdog::Running => {
                    state.parked.push(Arc::clone(&worker_wake));
                    worker_wake.wait(state);
                }
                Watchdog::Wanted => self.run_watchdog(state),
            }
        }
        state.pending_wakes = state.pending_wakes.saturating_sub(1);
        state.standing_by -= 1;
        // This thread reads the device now. If it is held up, too, it starts a watchdog again.
        if state.watchdog == Watchdog::Wanted {
            state.watchdog = Watchdog::Off;
        }
    }

    /// Occupies the other CPU for as long as that is wanted, or checks once that requests are taken.
    fn run_watchdog(&self, state: &mut MutexGuard<'_, PoolState>) {
        state.watchdog = Watchdog::Running;
        let taken = state.taken;
        let occupied = self.pairing().filter(|pairing| pairing.is_occupied());
        let timed_out = match occupied {
            Some(pairing) => {
                let limit = self.busy_poller.limit();
                MutexGuard::unlocked(state, || pairing.occupy_other_cpu(limit));
                false
            }
            None => self.watchdog_wake.wait_for(state, self.watchdog_interval).timed_out(),
        };
        state.watchdog = Watchdog::Wanted;
        if !timed_out || state.taken != taken {
            return;
        }
        // Nothing was taken for a while: for want of requests, or of threads.
        match state.reading {
            0 => {
                state.pending_wakes += 1;
                state.stalled = STALL_REQUESTS;
            }
            1 => {
                state.pending_wakes += 1;
                state.watchdog = Watchdog::Off;
            }
            _ => state.watchdog = Watchdog::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, JoinHandle};

    use rustix::event::{EventfdFlags, eventfd};

    use super::super::state::{BACKLOG_THRESHOLD, QUEUE_CHECK_PERIOD};
    use super::*;

    /// Longer than a thread takes to see that it is needed.
    const LONG: Duration = Duration::from_secs(10);
    /// Long enough for a thread that should not go on to do so all the same.
    const A_WHILE: Duration = Duration::from_millis(100);

    /// A device on which the test queues requests, and a session of `threads` threads.
    fn new_pool(threads: usize, watchdog_interval: Duration) -> (Arc<WorkerPool>, OwnedFd) {
        let device = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let settings = PoolSettings { threads, in_memory: false, busy_poll: Duration::ZERO };
        let pool = WorkerPool::new(device.try_clone().unwrap(), settings, None);
        let mut pool = Arc::into_inner(pool).unwrap();
        pool.watchdog_interval = watchdog_interval;
        (Arc::new(pool), device)
    }

    /// From now on requests follow each other, to the pool.
    fn begin_run(pool: &WorkerPool) {
        let mut state = pool.state.lock();
        (state.run, state.last_taken) = (RUN_THRESHOLD, Some(Instant::now() + LONG));
    }

    /// A run in a vault in memory, where `max_busy` threads work at once.
    fn run_in_memory(
        threads: usize,
        watchdog_interval: Duration,
        max_busy: usize,
    ) -> (Arc<WorkerPool>, OwnedFd) {
        let (pool, device) = new_pool(threads, watchdog_interval);
        let mut pool = Arc::into_inner(pool).unwrap();
        (pool.max_busy, pool.settings.in_memory) = (max_busy, true);
        begin_run(&pool);
        (Arc::new(pool), device)
    }

    const KERNEL: Requester = Requester { thread: 0, may_pair: true };

    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);

    /// A thread that takes a request and answers it at the test's word, and reports when it is ready.
    struct TestWorker {
        steps: Sender<()>,
        ready: Receiver<()>,
        thread: JoinHandle<()>,
    }

    impl TestWorker {
        fn of(pool: &Arc<WorkerPool>) -> Self {
            let (steps, next) = channel();
            let (report, ready) = channel();
            let pool = Arc::clone(pool);
            let thread = thread::spawn(move || {
                while next.recv().is_ok() {
                    // To the pool one request follows the other, however slow this test is.
                    let short = pool.on_request(KERNEL, *NOW);
                    assert_eq!(
                        short,
                        pool.state.lock().busy + RESERVED_THREADS > pool.settings.threads
                    );
                    report.send(()).unwrap();
                    next.recv().unwrap();
                    pool.on_reply(Instant::now(), false);
                    report.send(()).unwrap();
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

    /// Ends all: a waiting thread goes when another one does.
    fn end(workers: Vec<TestWorker>) {
        let split = |worker: TestWorker| (worker.steps, (worker.ready, worker.thread));
        let (steps, rest): (Vec<_>, Vec<_>) = workers.into_iter().map(split).unzip();
        drop(steps);
        for (_ready, thread) in rest {
            thread.join().unwrap();
        }
    }

    /// `workers` of which the first `ready` read the device and the others stand by.
    fn workers(pool: &Arc<WorkerPool>, ready: usize, workers: usize) -> Vec<TestWorker> {
        let workers: Vec<_> = (0..workers).map(|_| TestWorker::of(pool)).collect();
        for (number, worker) in workers.iter().enumerate() {
            worker.take();
            worker.answer();
            let time = if number < ready { LONG } else { A_WHILE };
            assert_eq!(worker.is_ready_within(time), number < ready, "thread {number}");
        }
        workers
    }

    #[test]
    fn threads_without_work_stand_by_until_the_session_ends() {
        let (pool, _device) = new_pool(3, WATCHDOG_INTERVAL);
        let mut workers = workers(&pool, 2, 3);
        workers.remove(0).end();
        assert!(workers[1].is_ready_within(LONG));
        end(workers);
    }

    #[test]
    fn another_is_woken_as_soon_as_none_reads_the_device() {
        let (pool, _device) = new_pool(4, LONG);
        let workers = workers(&pool, 2, 4);
        workers[0].take();
        assert!(!workers[2].is_ready_within(A_WHILE) && !workers[3].is_ready_within(A_WHILE));
        workers[1].take();
        let woken = wait_for_one(&workers[2..]) + 2;
        let left = 5 - woken;
        assert!(!workers[left].is_ready_within(A_WHILE), "one is enough");
        workers[woken].take();
        assert!(workers[left].is_ready_within(LONG));
        [0, 1, woken].into_iter().for_each(|number| workers[number].answer());
        end(workers);
    }

    /// The number of the first that is ready.
    fn wait_for_one(workers: &[TestWorker]) -> usize {
        let begun = Instant::now();
        loop {
            let ready = workers.iter().position(|worker| worker.is_ready_within(WATCHDOG_INTERVAL));
            if let Some(ready) = ready {
                return ready;
            }
            assert!(begun.elapsed() < LONG, "no other thread steps in");
        }
    }

    #[test]
    fn in_a_run_one_reads_and_another_steps_in_when_it_is_held_up() {
        let (pool, _device) = new_pool(2, WATCHDOG_INTERVAL * 40);
        begin_run(&pool);
        let workers = workers(&pool, 1, 2);
        workers[0].take();
        assert!(workers[1].is_ready_within(LONG));
        assert_eq!(pool.state.lock().stalled, STALL_REQUESTS);
        workers[0].answer();
        end(workers);
    }

    #[test]
    fn after_a_run_two_read_the_device_again() {
        let (pool, _device) = new_pool(2, WATCHDOG_INTERVAL);
        begin_run(&pool);
        let workers = workers(&pool, 1, 2);
        workers[0].take();
        workers[0].answer();
        assert!(workers[0].is_ready_within(LONG));
        assert!(workers[1].is_ready_within(LONG));
        assert_eq!(pool.state.lock().watchdog, Watchdog::Off);
        end(workers);
    }

    #[test]
    fn however_many_requests_wait_no_more_threads_work_than_are_enough() {
        let (pool, device) = run_in_memory(6, LONG, 3);
        rustix::io::write(&device, &1_u64.to_ne_bytes()).unwrap();
        let workers: Vec<_> = (0..6).map(|_| TestWorker::of(&pool)).collect();
        workers.iter().for_each(TestWorker::take);
        assert!(pool.state.lock().is_backlogged());
        for (number, worker) in workers.iter().enumerate() {
            worker.answer();
            let time = if number < 3 { A_WHILE } else { LONG };
            assert_eq!(worker.is_ready_within(time), number >= 3, "thread {number}");
        }
        end(workers);
    }

    #[test]
    fn when_all_that_work_are_held_up_another_reads_the_device_and_goes_on_doing_so() {
        let (pool, _device) = run_in_memory(3, WATCHDOG_INTERVAL, 1);
        let workers: Vec<_> = (0..2).map(|_| TestWorker::of(&pool)).collect();
        workers.iter().for_each(TestWorker::take);
        workers[0].answer();
        assert!(workers[0].is_ready_within(LONG));
        workers[0].take();
        workers[0].answer();
        assert!(workers[0].is_ready_within(LONG));
        // It did not stand by in between.
        assert_eq!(pool.state.lock().stalled, STALL_REQUESTS - 1);
        workers[1].answer();
        end(workers);
    }

    #[test]
    fn a_thread_that_stands_by_is_woken_when_requests_wait() {
        let (pool, device) = new_pool(2, LONG);
        begin_run(&pool);
        let workers = workers(&pool, 1, 2);
        rustix::io::write(&device, &1_u64.to_ne_bytes()).unwrap();
        // Sooner where this test is slow, as an answer then is: the first may be the one that stands by.
        let is_woken = (0..u64::from(BACKLOG_THRESHOLD) + QUEUE_CHECK_PERIOD).any(|_| {
            workers[0].take();
            workers[0].answer();
            wait_for_one(&workers) == 1
        });
        assert!(is_woken || workers[1].is_ready_within(LONG));
        end(workers);
    }
}
