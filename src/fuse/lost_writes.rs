//! After a write-back that failed: the kernel and the vault are made to agree again.
//!
//! With the writeback cache the kernel keeps the length and the content of a file, and believes no
//! answer about them. When it can't write back what programs wrote, it keeps showing that until it
//! forgets the file, though the vault does not have it. So, on a thread beside those that answer,
//! the file is cut through the mount to what the vault has of it, and the pages that could not be
//! written are dropped. The attributes are dropped first, so that the next write(2) asks for them,
//! and is answered with the failure.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::worker_pool::WorkerPool;
use crate::fs::{Fs, Inode};

/// Which mount a session answers for.
#[derive(Debug, Clone, Default)]
pub struct MountId {
    /// Where it was mounted.
    pub path: PathBuf,
    /// `st_dev` of what is in it.
    pub device: u64,
}

/// Sees to the files that something was lost of; its thread begins with the first.
#[derive(Debug)]
pub(super) struct LostWrites {
    sender: OnceLock<Option<Sender<Lost>>>,
    pending: Arc<Pending>,
    /// For requests that wait until a file is seen to, one behind the other: each has a deadline of
    /// its own, and none of them takes a thread that other requests need.
    waiting: Arc<WorkerPool>,
}

impl Default for LostWrites {
    fn default() -> Self {
        let (sender, pending) = (OnceLock::new(), Arc::default());
        Self { sender, pending, waiting: WorkerPool::new(1) }
    }
}

/// The files that are still to be seen to.
#[derive(Debug, Default)]
struct Pending {
    files: Mutex<HashSet<Inode>>,
    changed: Condvar,
}

/// How long a stat waits at most until the kernel agrees with the vault.
const TIMEOUT: Duration = Duration::from_secs(5);

impl Pending {
    fn wait_for(&self, inode: Inode, deadline: Instant) {
        let mut files = self.files.lock();
        let pending = |files: &mut HashSet<Inode>| files.contains(&inode);
        self.changed.wait_while_until(&mut files, pending, deadline);
    }

    fn done(&self, inode: Inode) {
        self.files.lock().remove(&inode);
        self.changed.notify_all();
    }
}

/// A range that could not be written.
struct Lost {
    inode: Inode,
    offset: u64,
}

impl LostWrites {
    /// What the kernel wrote back from `offset` on can't be written to the vault.
    pub(super) fn note(
        &self,
        fs: &Arc<Fs>,
        notifier: Option<&Notifier>,
        mount: &MountId,
        (inode, offset): (Inode, u64),
    ) {
        let Some(notifier) = notifier else { return };
        // Drops no page, and so waits for none.
        told(notifier.inval_inode(INodeNo(inode.0), -1, 0));
        self.pending.files.lock().insert(inode);
        let sender = self.sender.get_or_init(|| {
            let (sender, receiver) = channel();
            let mender = Mender {
                fs: Arc::clone(fs),
                notifier: notifier.clone(),
                mount: mount.clone(),
                pending: Arc::clone(&self.pending),
            };
            let thread = std::thread::Builder::new().name("lost writes".to_owned());
            thread.spawn(move || mender.run(&receiver)).ok().map(|_| sender)
        });
        // The thread ends with the process alone.
        let sent =
            sender.as_ref().is_some_and(|sender| sender.send(Lost { inode, offset }).is_ok());
        if !sent {
            self.pending.done(inode);
        }
    }

    /// Whether the kernel may show more of a file than the vault has.
    pub(super) fn is_pending(&self, inode: Inode) -> bool {
        self.pending.files.lock().contains(&inode)
    }

    /// Runs `answer` on another thread once it does not, or when it has taken too long.
    pub(super) fn once_settled(&self, inode: Inode, answer: impl FnOnce() + Send + 'static) {
        let (pending, deadline) = (Arc::clone(&self.pending), Instant::now() + TIMEOUT);
        self.waiting.submit(move || {
            pending.wait_for(inode, deadline);
            answer();
        });
    }
}

struct Mender {
    fs: Arc<Fs>,
    notifier: Notifier,
    mount: MountId,
    pending: Arc<Pending>,
}

impl Mender {
    fn run(&self, receiver: &Receiver<Lost>) {
        self.fs.cuts_what_was_lost(rustix::thread::gettid().as_raw_nonzero().get() as u32);
        while let Ok(first) = receiver.recv() {
            let mut lowest: HashMap<Inode, u64> = HashMap::new();
            for lost in std::iter::once(first).chain(receiver.try_iter()) {
                let offset = lowest.entry(lost.inode).or_insert(lost.offset);
                *offset = lost.offset.min(*offset);
            }
            for (inode, offset) in lowest {
                // Without a name, or where the mount can't be reached any more, the kernel keeps its
                // length, and the vault the same one, with a hole.
                if let Err(error) = self.cut(inode) {
                    log::debug!("inode {} keeps the length that the kernel has: {error}", inode.0);
                }
                told(self.notifier.inval_inode(INodeNo(inode.0), offset as i64, 0));
                self.pending.done(inode);
            }
        }
    }

    /// Has the kernel ask for a truncate of the file, which is answered with the length that the
    /// vault has.
    fn cut(&self, inode: Inode) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.mount.path, flags, Mode::empty())?;
        let file = self.find(&root, inode)?;
        // It leads to no other file: the descriptor is the file itself.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let len = match self.fs.written_len(inode) {
            Some(len) => len,
            None => self.fs.getattr(inode).map_err(io::Error::other)?.size,
        };
        Ok(nix::unistd::truncate(path.as_str(), len as i64)?)
    }

    /// The file, if it lies in this mount and not in what is mounted on it.
    fn find(&self, root: &OwnedFd, inode: Inode) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        let path = self.fs.path_of(inode);
        let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?;
        let stat = rustix::fs::fstat(&file)?;
        let is_it = (stat.st_ino, stat.st_dev) == (inode.0, self.mount.device);
        is_it.then_some(file).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

/// The kernel may have forgotten the inode (ENOENT): then it keeps nothing of it.
fn told(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("the kernel keeps content of a file that the vault does not have: {error}");
    }
}
