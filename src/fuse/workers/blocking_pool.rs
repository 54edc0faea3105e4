//! Threads for requests that wait: for a disk, or for the kernel's own write-back.
//!
//! The session's threads are few, and each of them that waits is one less for requests that can be
//! answered at once. A thread of this pool starts when a job finds none free, and ends after
//! [`IDLE_TIMEOUT`] without work; an idle pool causes no wake-ups.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// A thread ends after so long without work.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// A pool that grows on demand.
pub struct BlockingPool {
    /// Threads at most. Further jobs wait for one of these.
    max_threads: usize,
    state: Mutex<State>,
    /// There is a job for an idle thread.
    queued: Condvar,
    /// Nothing is queued or running any more.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Jobs that were taken out of the queue and have not ended.
    running: usize,
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        write!(f, "{} threads, {} jobs running", state.threads, state.running)
    }
}

impl BlockingPool {
    pub fn new(max_threads: usize) -> Arc<Self> {
        let (queued, drained) = (Condvar::new(), Condvar::new());
        Arc::new(Self { max_threads, state: Mutex::default(), queued, drained })
    }

    /// Whether as many jobs are queued as can run at once.
    pub fn is_full(&self) -> bool {
        self.state.lock().queue.len() >= self.max_threads
    }

    /// Runs `job` on a thread of the pool, in the order of the calls as long as a thread is free.
    /// Where no thread can be had at all it runs here.
    pub fn submit(self: &Arc<Self>, job: impl FnOnce() + Send + 'static) {
        let mut state = self.state.lock();
        state.queue.push_back(Box::new(job));
        if state.idle >= state.queue.len() {
            self.queued.notify_one();
            return;
        }
        if state.threads >= self.max_threads {
            return;
        }
        state.threads += 1;
        drop(state);
        let pool = Arc::clone(self);
        let started = thread::Builder::new().name("slow".to_owned()).spawn(move || pool.work());
        if let Err(error) = started {
            self.run_without_thread(&error);
        }
    }

    /// Waits until all jobs have ended. No other may be submitted meanwhile.
    pub fn drain(&self) {
        let mut state = self.state.lock();
        while !state.queue.is_empty() || state.running > 0 {
            self.drained.wait(&mut state);
        }
    }

    /// No thread could be started for the last job: without any other the jobs run here.
    fn run_without_thread(&self, error: &std::io::Error) {
        log::debug!("no further thread for slow requests: {error}");
        let mut state = self.state.lock();
        state.threads -= 1;
        if state.threads > 0 {
            return;
        }
        while let Some(job) = state.queue.pop_front() {
            state = self.run(state, job);
        }
    }

    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            while let Some(job) = state.queue.pop_front() {
                state = self.run(state, job);
            }
            state.idle += 1;
            let timed_out = self.queued.wait_for(&mut state, IDLE_TIMEOUT).timed_out();
            state.idle -= 1;
            if timed_out && state.queue.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    fn run<'a>(
        &'a self,
        mut state: parking_lot::MutexGuard<'a, State>,
        job: Job,
    ) -> parking_lot::MutexGuard<'a, State> {
        state.running += 1;
        drop(state);
        job();
        let mut state = self.state.lock();
        state.running -= 1;
        if state.running == 0 && state.queue.is_empty() {
            self.drained.notify_all();
        }
        state
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const MAX_THREADS: usize = 8;
    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn jobs_run_side_by_side_up_to_the_limit() {
        let pool = BlockingPool::new(MAX_THREADS);
        let (started, starts) = channel();
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock();
        for _ in 0..MAX_THREADS + 8 {
            let (started, gate) = (started.clone(), Arc::clone(&gate));
            pool.submit(move || {
                started.send(()).unwrap();
                drop(gate.lock());
            });
        }
        for _ in 0..MAX_THREADS {
            starts.recv_timeout(LONG).unwrap();
        }
        assert!(starts.recv_timeout(Duration::from_millis(50)).is_err(), "more than the limit");
        assert_eq!(pool.state.lock().threads, MAX_THREADS);
        drop(closed);
        pool.drain();
        assert_eq!(starts.try_iter().count(), 8);
    }

    #[test]
    fn a_thread_that_is_free_is_used_again() {
        let pool = BlockingPool::new(MAX_THREADS);
        for _ in 0..20 {
            let (done, ended) = channel();
            pool.submit(move || done.send(()).unwrap());
            ended.recv_timeout(LONG).unwrap();
            pool.drain();
            while pool.state.lock().idle == 0 {
                thread::yield_now();
            }
        }
        assert_eq!(pool.state.lock().threads, 1);
    }
}
