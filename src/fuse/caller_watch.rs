//! Cancels slow requests whose caller is killed.
//!
//! A program that was killed stays until its request is answered. The kernel sends a FUSE_INTERRUPT, which
//! `fuser` 0.18 refuses (request.rs, `Operation::Interrupt`); the kernel then sends no more of them. So
//! while slow requests are in flight, a thread polls the state of their callers in /proc.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{Errno, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyWrite};
use parking_lot::Mutex;

use crate::sys::is_killed;

/// How often the callers are checked.
const INTERVAL: Duration = Duration::from_millis(25);
/// The caller of a younger request is not checked.
const MIN_AGE: Duration = Duration::from_millis(20);
/// The thread ends after so many rounds without a request.
const IDLE_ROUNDS: u32 = 40;

/// Work that is cancelled when its caller is killed.
pub(super) trait Cancel: Send + Sync {
    /// The caller was killed.
    fn cancel(&self);
}

/// A reply that is given once: by the work, or when the caller is killed.
#[derive(Debug)]
pub(super) struct PendingReply<R>(Mutex<Option<R>>);

impl<R: ErrorReply> PendingReply<R> {
    pub(super) fn new(reply: R) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(reply))))
    }

    /// The reply, unless it was given already.
    pub(super) fn take(&self) -> Option<R> {
        self.0.lock().take()
    }

    /// Whether the reply was given.
    pub(super) fn is_answered(&self) -> bool {
        self.0.lock().is_none()
    }
}

impl<R: ErrorReply> Cancel for PendingReply<R> {
    fn cancel(&self) {
        if let Some(reply) = self.take() {
            reply.reply_error(Errno::EINTR);
        }
    }
}

/// A reply that can be an error.
pub(super) trait ErrorReply: Send + 'static {
    fn reply_error(self, errno: Errno);
}

macro_rules! impl_error_reply {
    ($($reply:ty),*) => {$(
        impl ErrorReply for $reply {
            fn reply_error(self, errno: Errno) {
                self.error(errno);
            }
        }
    )*};
}

impl_error_reply!(ReplyEmpty, ReplyEntry, ReplyCreate, ReplyAttr, ReplyLseek);

/// A write that is done and not durable yet. An error would be wrong: the kernel would take the file for
/// shorter than it is.
impl ErrorReply for (ReplyWrite, u32) {
    fn reply_error(self, _: Errno) {
        self.0.written(self.1);
    }
}

/// Checks the callers of slow requests as long as there are any.
#[derive(Debug, Default)]
pub(super) struct CallerWatch(Mutex<State>);

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// A thread checks them.
    running: bool,
}

struct Request {
    caller: u32,
    since: Instant,
    /// Gone when the work has ended.
    work: Weak<dyn Cancel>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests", self.requests.len())
    }
}

impl CallerWatch {
    /// Cancels `work` when its caller, a thread, is killed before `work` is dropped. A `caller` of 0 is the
    /// kernel or a process of another PID namespace, which can't be checked.
    pub(super) fn watch<W: Cancel + 'static>(self: &Arc<Self>, caller: u32, work: &Arc<W>) {
        if caller == 0 {
            return;
        }
        let work: Weak<dyn Cancel> = Arc::downgrade(work) as Weak<dyn Cancel>;
        let mut state = self.0.lock();
        // Those that have ended are dropped here too, so that the list stays as long as the work under way.
        if state.requests.len() == state.requests.capacity() {
            state.requests.retain(|request| request.work.strong_count() > 0);
        }
        state.requests.push(Request { caller, since: Instant::now(), work });
        if !state.running {
            let watch = Arc::clone(self);
            let thread = thread::Builder::new().name("killed".to_owned());
            // Without a thread the caller waits for its reply.
            state.running = thread.spawn(move || watch.run()).is_ok();
        }
    }

    fn run(&self) {
        let mut idle = 0;
        while idle < IDLE_ROUNDS {
            thread::sleep(INTERVAL);
            let killed: Vec<_> = {
                let mut state = self.0.lock();
                state.requests.retain(|request| request.work.strong_count() > 0);
                idle = if state.requests.is_empty() { idle + 1 } else { 0 };
                if idle == IDLE_ROUNDS {
                    state.running = false;
                    return;
                }
                let old = state.requests.iter().filter(|request| request.since.elapsed() > MIN_AGE);
                old.map(|request| (request.caller, Weak::clone(&request.work))).collect()
            };
            for (caller, work) in killed {
                if is_killed(caller)
                    && let Some(work) = work.upgrade()
                {
                    work.cancel();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Given(AtomicBool);

    impl Cancel for Given {
        fn cancel(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn work_of_a_live_caller_goes_on() {
        let watch = Arc::new(CallerWatch::default());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let work = Arc::new(Given::default());
        watch.watch(child.id(), &work);
        thread::sleep(INTERVAL * 6);
        assert!(!work.0.load(Ordering::Relaxed));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(work);
        let begun = Instant::now();
        while watch.0.lock().running {
            assert!(begun.elapsed() < Duration::from_secs(20), "the thread does not end");
            thread::sleep(INTERVAL);
        }
    }
}
