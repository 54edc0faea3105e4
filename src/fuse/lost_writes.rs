//! After a write-back that failed: the kernel and the vault are made to agree again.
//!
//! With the writeback cache the kernel keeps the length and the content of a file, and believes no
//! answer about them. When it can't write back what programs wrote, it keeps showing that until it
//! forgets the file, though the vault does not have it. So, on a thread beside those that answer,
//! the file is cut through the mount to what the vault has of it, and the pages that could not be
//! written are dropped. The attributes are dropped first, so that the next write(2) asks for them,
//! and is answered with the failure.
//!
//! A write(2) that asked before the failure may still wait for the kernel's inode lock, and go on
//! after the cut at the position that its program knows: between the cut and that position the file
//! would have zeros that nobody wrote. So after the first cut no write-back makes the file longer, and
//! whenever a descriptor has been told, by when such a write of its is done, the file is cut once more.
//! Until then each write(2) that asks is refused. That ends when one that was told asks again: what it
//! writes is not to be cut away, and a late write of another descriptor may then leave zeros.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use fuser::{INodeNo, Notifier};
use parking_lot::{Condvar, Mutex};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use super::workers::blocking_pool::BlockingPool;
use crate::fs::{Fs, Inode};
use crate::sys;

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
    waiting: Arc<BlockingPool>,
}

impl Default for LostWrites {
    fn default() -> Self {
        let (sender, pending) = (OnceLock::new(), Arc::default());
        Self { sender, pending, waiting: BlockingPool::new(1) }
    }
}

/// The files that are still to be seen to.
#[derive(Debug, Default)]
struct Pending {
    files: Mutex<HashMap<Inode, Unsettled>>,
    changed: Condvar,
    /// How many `files` has, so that a common request takes no lock.
    count: AtomicUsize,
}

/// What is known of a file that is still to be seen to, or was cut, and nobody who was told has gone
/// on writing it.
#[derive(Debug, Clone, Copy, Default)]
struct Unsettled {
    /// Failures that the thread has not dealt with.
    failures: u64,
    /// Whether the kernel knows a length that the vault does not have.
    too_long: bool,
    /// Whether the file was cut: what the kernel writes back behind its end is of a write(2) that the
    /// cut came before.
    cut: bool,
    /// Whether one was told, or a write-back was refused, since the last cut began.
    again: bool,
}

/// How long a stat waits at most until the kernel agrees with the vault.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What a write(2) takes, in most cases, from the answer to its question to the kernel's inode lock.
const BETWEEN_CUTS: Duration = Duration::from_millis(20);

impl Pending {
    fn wait_for(&self, inode: Inode, deadline: Instant) {
        let mut files = self.files.lock();
        let pending = |files: &mut HashMap<Inode, Unsettled>| {
            files.get(&inode).is_some_and(|file| file.failures > 0)
        };
        self.changed.wait_while_until(&mut files, pending, deadline);
    }

    fn add(&self, inode: Inode, too_long: bool) {
        let mut files = self.files.lock();
        let file = files.entry(inode).or_default();
        file.failures += 1;
        file.too_long |= too_long;
        self.count.store(files.len(), Ordering::Relaxed);
    }

    fn find(&self, inode: Inode) -> Option<Unsettled> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        self.files.lock().get(&inode).copied()
    }

    fn note_cut(&self, inode: Inode) {
        if let Some(file) = self.files.lock().get_mut(&inode) {
            file.cut = true;
        }
    }

    fn begin_cut(&self, inode: Inode) {
        if let Some(file) = self.files.lock().get_mut(&inode) {
            file.again = false;
        }
    }

    /// The file is to be cut again, if it is one to be cut. Whether the thread is to be woken.
    fn cut_again(&self, inode: Inode) -> bool {
        if self.count.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut files = self.files.lock();
        let Some(file) = files.get_mut(&inode).filter(|file| file.too_long) else { return false };
        file.again = true;
        let is_idle = file.failures == 0;
        file.failures += u64::from(is_idle);
        is_idle
    }

    /// So many failures of a file were dealt with; `false` where it must be cut again before.
    fn done(&self, inode: Inode, failures: u64) -> bool {
        let mut files = self.files.lock();
        if let Entry::Occupied(mut entry) = files.entry(inode) {
            let file = entry.get_mut();
            if file.again && file.cut {
                return false;
            }
            file.failures = file.failures.saturating_sub(failures);
            if file.failures == 0 && !file.cut {
                entry.remove();
            }
        }
        self.count.store(files.len(), Ordering::Relaxed);
        self.changed.notify_all();
        true
    }

    /// A file is not cut again for what has failed by now.
    fn forget(&self, inode: Inode) {
        if self.count.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut files = self.files.lock();
        if files.get(&inode).is_some_and(|file| file.failures == 0) {
            files.remove(&inode);
        }
        self.count.store(files.len(), Ordering::Relaxed);
    }
}

/// A range that could not be written.
struct Lost {
    inode: Inode,
    offset: u64,
    /// Whether it is kept open until this was dealt with.
    held: bool,
}

/// The offset where no page is to be dropped, as the kernel has it (-1).
const NO_PAGES: u64 = u64::MAX;

/// What could not be written of one file.
struct Losses {
    /// The lowest offset.
    offset: u64,
    failures: u64,
    holds: u64,
}

impl LostWrites {
    /// What the kernel wrote back of the range `lost` can't be written to the vault.
    pub(super) fn note(
        &self,
        fs: &Arc<Fs>,
        notifier: Option<&Notifier>,
        mount: &MountId,
        (inode, lost): (Inode, Range<u64>),
    ) {
        let Some(notifier) = notifier else { return };
        self.pending.add(inode, fs.is_too_long(inode, lost.end));
        // After that, so that who asks from now on is refused. Drops no page, and so waits for none.
        told(notifier.inval_inode(INodeNo(inode.0), -1, 0));
        let sender = self.sender.get_or_init(|| {
            let (sender, receiver) = channel();
            let mender = Mender {
                fs: Arc::clone(fs),
                notifier: notifier.clone(),
                mount: mount.clone(),
                pending: Arc::clone(&self.pending),
            };
            let thread = thread::Builder::new().name("lost writes".to_owned());
            thread.spawn(move || mender.run(&receiver)).ok().map(|_| sender)
        });
        // The thread ends with the process alone.
        let held = fs.keep_open(inode);
        let lost = Lost { inode, offset: lost.start, held };
        let sent = sender.as_ref().is_some_and(|sender| sender.send(lost).is_ok());
        if !sent {
            self.pending.done(inode, 1);
            if held && let Err(error) = fs.release(inode) {
                log::debug!("{error}");
            }
        }
    }

    /// A descriptor was told, or a write-back was refused that would have made a file longer.
    pub(super) fn cut_again(&self, fs: &Fs, inode: Inode) {
        if self.pending.cut_again(inode)
            && let Some(Some(sender)) = self.sender.get()
        {
            // The thread ends with the process alone.
            let _ = sender.send(Lost { inode, offset: NO_PAGES, held: fs.keep_open(inode) });
        }
    }

    /// A descriptor that was told is about to write a file, or the last one that writes it is closed:
    /// from now on it may get longer.
    pub(super) fn forget(&self, inode: Inode) {
        self.pending.forget(inode);
    }

    /// Whether the kernel may show more of a file than the vault has.
    pub(super) fn is_pending(&self, inode: Inode) -> bool {
        self.pending.find(inode).is_some_and(|file| file.failures > 0)
    }

    /// Whether a file is to be cut, and nothing may be written to it until it was.
    pub(super) fn refuses_writes(&self, inode: Inode) -> bool {
        self.pending.find(inode).is_some_and(|file| file.too_long && file.failures > 0)
    }

    /// The file was cut, which the kernel does not know yet.
    pub(super) fn note_cut(&self, inode: Inode) {
        self.pending.note_cut(inode);
    }

    /// Whether no write-back may make a file longer: it was cut.
    pub(super) fn refuses_growth(&self, inode: Inode) -> bool {
        self.pending.find(inode).is_some_and(|file| file.cut)
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
            let mut files: HashMap<Inode, Losses> = HashMap::new();
            for lost in std::iter::once(first).chain(receiver.try_iter()) {
                let new = Losses { offset: lost.offset, failures: 0, holds: 0 };
                let file = files.entry(lost.inode).or_insert(new);
                file.offset = file.offset.min(lost.offset);
                file.failures += 1;
                file.holds += u64::from(lost.held);
            }
            self.cut_twice(files.keys().copied());
            for (inode, lost) in files {
                let drop = || self.notifier.inval_inode(INodeNo(inode.0), lost.offset as i64, 0);
                told(drop());
                // Once for each descriptor at most, and each write-back that it had begun.
                while !self.pending.done(inode, lost.failures) {
                    self.cut_once(inode);
                    told(drop());
                }
                for _ in 0..lost.holds {
                    // What is owed is tried again.
                    let _ = self.fs.release(inode);
                }
            }
        }
    }

    fn cut_twice(&self, files: impl Iterator<Item = Inode>) {
        let is_too_long =
            |&inode: &Inode| self.pending.find(inode).is_some_and(|file| file.too_long);
        // Without a name, or where the mount can't be reached any more, the kernel keeps its
        // length, and the vault the same one, with a hole.
        let cut = files.filter(is_too_long).filter(|&inode| self.cut_once(inode));
        let cut: Vec<Inode> = cut.collect();
        if cut.is_empty() {
            return;
        }
        thread::sleep(BETWEEN_CUTS);
        cut.iter().for_each(|&inode| _ = self.cut_once(inode));
    }

    fn cut_once(&self, inode: Inode) -> bool {
        self.pending.begin_cut(inode);
        let cut = self.cut(inode);
        if let Err(error) = &cut {
            log::debug!("inode {} keeps the length that the kernel has: {error}", inode.0);
        }
        cut.is_ok()
    }

    /// Has the kernel ask for a truncate of the file, which is answered with the length that the
    /// vault has.
    fn cut(&self, inode: Inode) -> io::Result<()> {
        let root = sys::open_directory_at(CWD, &self.mount.path, OFlags::PATH)?;
        let file = self.find(&root, inode)?;
        // It leads to no other file: the descriptor is the file itself.
        let path = sys::descriptor_path(&file);
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
