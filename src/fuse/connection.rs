//! The part of a session that the daemon keeps, besides its threads.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier, Request};

use super::caller_watch::CallerWatch;
use super::counters::{Counters, Operation};
use super::lost_writes::MountId;
use super::workers::blocking_pool::BlockingPool;
use super::workers::pool::{Requester, WorkerPool};
use crate::fs::Inode;

/// How the mount behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which mount it is.
    pub mount: MountId,
    /// The kernel keeps what is written and hands it on later, in large pieces.
    pub writeback: bool,
    /// How long a thread polls for the next request before it sleeps; zero for never.
    pub busy_poll: Duration,
}

/// What the daemon keeps of a mount while [`Adapter`](super::Adapter) belongs to the session.
#[derive(Debug)]
pub struct Connection {
    counters: Counters,
    notifier: OnceLock<Notifier>,
    workers: OnceLock<Arc<WorkerPool>>,
    /// For requests that wait for a disk, or for other requests of the kernel.
    pub(super) slow: Arc<BlockingPool>,
    /// For requests for which the session has too few threads. No job here waits for another request,
    /// so that those in `slow` may wait for one of these.
    pub(super) spill: Arc<BlockingPool>,
    /// The same for changes of names and attributes. Any number of them may wait for a disk.
    pub(super) changes: Arc<BlockingPool>,
    /// The callers of the requests in `slow`.
    pub(super) callers: Arc<CallerWatch>,
    /// The daemon's own user.
    user: u32,
}

/// Slow requests that are answered at once.
const MAX_SLOW: usize = 64;
/// The same for those for which the session has too few threads; each has buffers of its own.
const MAX_SPILLED: usize = 16;

impl Default for Connection {
    fn default() -> Self {
        Self {
            counters: Counters::default(),
            notifier: OnceLock::new(),
            workers: OnceLock::new(),
            slow: BlockingPool::new(MAX_SLOW),
            spill: BlockingPool::new(MAX_SPILLED),
            changes: BlockingPool::new(MAX_SLOW),
            callers: Arc::default(),
            user: rustix::process::geteuid().as_raw(),
        }
    }
}

/// A request that this thread answers or hands on. Dropped after that, it waits until the thread is to
/// read the next one.
pub(super) struct RequestGuard<'a> {
    connection: &'a Connection,
    operation: Operation,
    begun: Instant,
    few_threads_left: bool,
}

impl RequestGuard<'_> {
    /// Whether few threads are left for other requests.
    pub(super) fn few_threads_left(&self) -> bool {
        self.few_threads_left
    }

    /// The same, and `spill` has room for one more.
    pub(super) fn should_spill(&self) -> bool {
        self.few_threads_left && !self.connection.spill.is_full()
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        if let Some(workers) = self.connection.workers.get() {
            workers.on_reply(self.begun, self.operation.is_sync());
        }
    }
}

impl Connection {
    /// How many requests of each operation there were.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Sets how long a thread polls for the next request, from the next one on; zero for never.
    pub fn set_busy_poll(&self, limit: Duration) {
        if let Some(workers) = self.workers.get() {
            workers.busy_poller().set_limit(limit);
        }
    }

    /// How long a thread polls for the next request.
    pub fn busy_poll(&self) -> Duration {
        self.workers.get().map_or(Duration::ZERO, |workers| workers.busy_poller().limit())
    }

    /// Counts a request. The guard is dropped when it was answered.
    pub(super) fn begin(&self, operation: Operation, request: &Request) -> RequestGuard<'_> {
        self.begin_for(operation, request.pid(), request)
    }

    /// [`Connection::begin`] of a request that the thread `caller` waits for; 0 is the kernel.
    pub(super) fn begin_for(
        &self,
        operation: Operation,
        caller: u32,
        request: &Request,
    ) -> RequestGuard<'_> {
        self.counters.count(operation);
        let requester = Requester { thread: caller, may_pair: request.uid() == self.user };
        let on_request = |workers: &Arc<WorkerPool>| workers.on_request(requester, Instant::now());
        let few_threads_left = self.workers.get().is_some_and(on_request);
        // The time of the reply does not count a move to the caller's CPU.
        let begun = Instant::now();
        RequestGuard { connection: self, operation, begun, few_threads_left }
    }

    /// A sync that was handed on to another thread was answered.
    pub(super) fn on_handed_on_sync(&self) {
        if let Some(workers) = self.workers.get() {
            workers.on_handed_on_sync();
        }
    }

    /// Waits for the work of requests that were handed on. No further request comes.
    pub(super) fn drain(&self) {
        self.spill.drain();
        self.changes.drain();
        self.slow.drain();
    }

    /// Sends notifications to the kernel.
    pub(super) fn notifier(&self) -> Option<&Notifier> {
        self.notifier.get()
    }

    /// Drops the attributes of a file from the kernel's cache. To be called after the request about the
    /// file is answered: the kernel may wait for the reply.
    pub(super) fn invalidate_attributes(&self, file: Inode) {
        let Some(notifier) = self.notifier.get() else { return };
        if let Err(error) = notifier.inval_inode(INodeNo(file.0), -1, 0) {
            log::debug!("the kernel keeps attributes of inode {}: {error}", file.0);
        }
    }

    /// Has the kernel write back and drop the pages of these files.
    pub fn drop_cached(&self, files: &[Inode]) {
        let Some(notifier) = self.notifier.get() else { return };
        for file in files {
            // ENOENT: the kernel has forgotten the inode, and keeps nothing of it.
            if let Err(error) = notifier.inval_inode(INodeNo(file.0), 0, 0)
                && error.kind() != io::ErrorKind::NotFound
            {
                log::warn!("the kernel keeps content of inode {}: {error}", file.0);
            }
        }
    }

    /// Sets what belongs to the session, of which there is one to a connection.
    pub(super) fn attach(&self, notifier: Notifier, workers: Arc<WorkerPool>) {
        let _ = (self.notifier.set(notifier), self.workers.set(workers));
    }
}
