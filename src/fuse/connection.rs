//! What the daemon keeps of a session besides its threads.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier, Request};

use super::counters::{Counters, Operation};
use super::killed::CallerWatch;
use super::lost_writes::MountId;
use super::workers::blocking_pool::WorkerPool;
use super::workers::pool::Lookout;
use crate::fs::Inode;

/// How the mount behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which mount it is.
    pub mount: MountId,
    /// The kernel keeps what is written and hands it on later, in large pieces.
    pub writeback: bool,
    /// How long a thread looks out for the next request before it sleeps; zero for never.
    pub spin: Duration,
}

/// What the daemon keeps of a mount while [`Adapter`](super::Adapter) belongs to the session.
#[derive(Debug)]
pub struct Connection {
    counters: Counters,
    notifier: OnceLock<Notifier>,
    lookout: OnceLock<Arc<Lookout>>,
    /// For requests that wait for a disk, or for requests that the kernel makes meanwhile.
    pub(super) slow: Arc<WorkerPool>,
    /// For what there are too few threads left for. Nothing that runs here waits for another
    /// request, so that those in `slow` may wait for one of these.
    pub(super) spill: Arc<WorkerPool>,
    /// The same for changes of names and attributes, any number of which may wait for a disk.
    pub(super) changes: Arc<WorkerPool>,
    /// Who waits for what `slow` does.
    pub(super) callers: Arc<CallerWatch>,
    /// The daemon's own user.
    user: u32,
}

/// Slow requests that are worked on at once.
const MAX_SLOW: usize = 64;
/// The same of those for which the session has too few threads; each has buffers of its own.
const MAX_SPILLED: usize = 16;

impl Default for Connection {
    fn default() -> Self {
        Self {
            counters: Counters::default(),
            notifier: OnceLock::new(),
            lookout: OnceLock::new(),
            slow: WorkerPool::new(MAX_SLOW),
            spill: WorkerPool::new(MAX_SPILLED),
            changes: WorkerPool::new(MAX_SLOW),
            callers: Arc::default(),
            user: rustix::process::geteuid().as_raw(),
        }
    }
}

/// A request being answered. When it is, the thread looks out for the next.
pub(super) struct Turn<'a> {
    connection: &'a Connection,
    operation: Operation,
    begun: Instant,
    few_left: bool,
}

impl Turn<'_> {
    /// Whether hardly any thread is left for other requests.
    pub(super) fn few_left(&self) -> bool {
        self.few_left
    }

    /// The same, and `spill` takes one more.
    pub(super) fn is_short(&self) -> bool {
        self.few_left && !self.connection.spill.is_full()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(lookout) = self.connection.lookout.get() {
            lookout.answered(self.begun, self.operation.is_sync());
        }
    }
}

impl Connection {
    /// How often each operation was asked for.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// How long a thread looks out for the next request, from the next turn on; zero for never.
    pub fn spin_for(&self, limit: Duration) {
        if let Some(lookout) = self.lookout.get() {
            lookout.set_limit(limit);
        }
    }

    /// How long that is now.
    pub fn spins_for(&self) -> Duration {
        self.lookout.get().map_or(Duration::ZERO, |lookout| lookout.limit())
    }

    /// Counts a request, whose answer ends the turn. Who asks is a thread; 0 is the kernel.
    pub(super) fn begin(&self, operation: Operation, request: &Request) -> Turn<'_> {
        self.begin_for(operation, request.pid(), request)
    }

    /// [`Connection::begin`] of a request that `caller` waits for, 0 where that is nobody.
    pub(super) fn begin_for(
        &self,
        operation: Operation,
        caller: u32,
        request: &Request,
    ) -> Turn<'_> {
        self.counters.count(operation);
        // /proc/PID/stat waits for as long as its process likes: it is read of the own user's alone.
        let may_sit = request.uid() == self.user;
        let took = |lookout: &Arc<Lookout>| lookout.took(caller, may_sit, Instant::now());
        let few_left = self.lookout.get().is_some_and(took);
        // A move to the caller's processor is no part of what the answer takes.
        let begun = Instant::now();
        Turn { connection: self, operation, begun, few_left }
    }

    /// Something was synced by another thread than the session's.
    pub(super) fn synced(&self) {
        if let Some(lookout) = self.lookout.get() {
            lookout.synced();
        }
    }

    /// Waits for the work of requests that were handed on. No request comes any more.
    pub(super) fn drain(&self) {
        self.spill.drain();
        self.changes.drain();
        self.slow.drain();
    }

    /// The way to tell the kernel something unasked.
    pub(super) fn notifier(&self) -> Option<&Notifier> {
        self.notifier.get()
    }

    /// Has the kernel ask for the attributes of a file when somebody wants them next. Not before
    /// the request about the file that is in work is answered: the kernel may wait for it.
    pub(super) fn invalidate_attributes(&self, file: Inode) {
        let Some(notifier) = self.notifier.get() else { return };
        if let Err(error) = notifier.inval_inode(INodeNo(file.0), -1, 0) {
            log::debug!("the kernel keeps attributes of inode {}: {error}", file.0);
        }
    }

    /// Has the kernel write back what it keeps of these files, and then give it up.
    pub fn drop_cached(&self, files: &[Inode]) {
        let Some(notifier) = self.notifier.get() else { return };
        for file in files {
            // What the kernel has forgotten meanwhile (ENOENT) is what it keeps nothing of.
            if let Err(error) = notifier.inval_inode(INodeNo(file.0), 0, 0)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("the kernel keeps content of inode {}: {error}", file.0);
            }
        }
    }

    /// Gives the adapter its session's end of the mount: the way to tell the kernel something
    /// unasked, and the device to look out on. The first ones stay.
    pub(super) fn attach(&self, notifier: Notifier, lookout: Arc<Lookout>) {
        // There is one session to a connection, so there is no second one to lose.
        let _ = (self.notifier.set(notifier), self.lookout.set(lookout));
    }
}
