//! Requests whose caller may be killed before they are answered.
//!
//! A program that was killed stays until its request is answered. The kernel would say so by
//! FUSE_INTERRUPT, which `fuser` 0.18 refuses (request.rs, `Operation::Interrupt`); the kernel then
//! sends no more of them. So while slow requests are in flight their callers are looked at, in /proc.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{Errno, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyWrite};
use parking_lot::Mutex;

use crate::sys::is_killed;

/// How often callers are looked at.
const INTERVAL: Duration = Duration::from_millis(25);
/// A request that is younger is not worth the look.
const YOUNG: Duration = Duration::from_millis(20);
/// The thread that looks ends after so many rounds in which there was nothing to look at.
const IDLE_ROUNDS: u32 = 40;

/// What can be given up when nobody waits for it any more.
pub(super) trait GiveUp: Send + Sync {
    /// The caller was killed.
    fn give_up(&self);
}

/// A reply that is given by whoever comes first: the work, or the caller's death.
#[derive(Debug)]
pub(super) struct Unanswered<R>(Mutex<Option<R>>);

impl<R: Refuse> Unanswered<R> {
    pub(super) fn new(reply: R) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(reply))))
    }

    /// The reply, unless it was given.
    pub(super) fn take(&self) -> Option<R> {
        self.0.lock().take()
    }

    /// Whether nobody waits any more.
    pub(super) fn is_answered(&self) -> bool {
        self.0.lock().is_none()
    }
}

impl<R: Refuse> GiveUp for Unanswered<R> {
    fn give_up(&self) {
        if let Some(reply) = self.take() {
            reply.refuse(Errno::EINTR);
        }
    }
}

/// A reply that can be an error.
pub(super) trait Refuse: Send + 'static {
    fn refuse(self, errno: Errno);
}

macro_rules! refused_by_errors {
    ($($reply:ty),*) => {$(
        impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        }
    )*};
}

refused_by_errors!(ReplyEmpty, ReplyEntry, ReplyCreate, ReplyAttr, ReplyLseek);

/// A write that is done and not durable yet. That it failed would be wrong: the kernel would take
/// the file for shorter than it is.
impl Refuse for (ReplyWrite, u32) {
    fn refuse(self, _: Errno) {
        self.0.written(self.1);
    }
}

/// Looks at the callers of slow requests as long as there are any.
#[derive(Debug, Default)]
pub(super) struct CallerWatch(Mutex<State>);

#[derive(Default)]
struct State {
    requests: Vec<Request>,
    /// A thread looks.
    running: bool,
}

struct Request {
    caller: u32,
    since: Instant,
    /// Gone when the work has ended.
    work: Weak<dyn GiveUp>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests", self.requests.len())
    }
}

impl CallerWatch {
    /// Gives `work` up when its caller, a thread, is killed before `work` is dropped. Where `caller`
    /// is 0, the kernel or a process of another PID namespace, nothing can be told of it.
    pub(super) fn note<W: GiveUp + 'static>(self: &Arc<Self>, caller: u32, work: &Arc<W>) {
        if caller == 0 {
            return;
        }
        let work: Weak<dyn GiveUp> = Arc::downgrade(work) as Weak<dyn GiveUp>;
        let mut state = self.0.lock();
        // Those that have ended go here too, so that their number stays that of the work under way.
        if state.requests.len() == state.requests.capacity() {
            state.requests.retain(|request| request.work.strong_count() > 0);
        }
        state.requests.push(Request { caller, since: Instant::now(), work });
        if !state.running {
            let watch = Arc::clone(self);
            let thread = thread::Builder::new().name("killed".to_owned());
            // Without a thread the caller waits for its answer, as others do.
            state.running = thread.spawn(move || watch.look()).is_ok();
        }
    }

    fn look(&self) {
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
                let old = state.requests.iter().filter(|request| request.since.elapsed() > YOUNG);
                old.map(|request| (request.caller, Weak::clone(&request.work))).collect()
            };
            for (caller, work) in killed {
                if is_killed(caller)
                    && let Some(work) = work.upgrade()
                {
                    work.give_up();
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

    impl GiveUp for Given {
        fn give_up(&self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn work_of_a_live_caller_goes_on() {
        let watch = Arc::new(CallerWatch::default());
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let work = Arc::new(Given::default());
        watch.note(child.id(), &work);
        thread::sleep(INTERVAL * 6);
        assert!(!work.0.load(Ordering::Relaxed));
        child.kill().unwrap();
        child.wait().unwrap();
        drop(work);
        let begun = Instant::now();
        while watch.0.lock().running {
            assert!(begun.elapsed() < Duration::from_secs(20), "it looks for nothing");
            thread::sleep(INTERVAL);
        }
    }
}
