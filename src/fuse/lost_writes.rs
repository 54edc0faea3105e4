//! Repairs the kernel's view of a file after a write-back that failed.
//!
//! With the writeback cache the kernel keeps the length and the content of a file, and ignores what replies
//! say of them. When it can't write back its pages, it shows them until it forgets the file, though the
//! vault does not have them. So a thread of its own truncates the file through the mount to the length that
//! the vault has (the cut), and drops the pages that could not be written. It drops the attributes first:
//! the next write(2) then asks for them, and the reply reports the failure.
//!
//! A write(2) that asked before the failure may still wait for the kernel's inode lock, and go on after the
//! cut at its old offset. Between the cut and that offset the file would have zeros that no program wrote.
//! So after the first cut no write-back may make the file longer, and each time the failure was reported to
//! a descriptor, whose earlier write is done by then, the file is cut again. Until then each write(2) that
//! asks is refused. That ends when a descriptor with the report asks again: its write must not be cut away,
//! and a late write of another descriptor may then leave zeros.

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
    /// The mount point.
    pub path: PathBuf,
    /// `st_dev` of its files.
    pub device: u64,
}

/// The files with lost writes, and the thread that repairs them, which starts with the first one.
#[derive(Debug)]
pub(super) struct LostWrites {
    sender: OnceLock<Option<Sender<Lost>>>,
    pending: Arc<Pending>,
    /// For requests that wait until a file is repaired, one after the other: each has a deadline of its
    /// own, and none of them takes a thread that other requests need.
    waiting: Arc<BlockingPool>,
}

impl Default for LostWrites {
    fn default() -> Self {
        let (sender, pending) = (OnceLock::new(), Arc::default());
        Self { sender, pending, waiting: BlockingPool::new(1) }
    }
}

/// The files that are still to be repaired.
#[derive(Debug, Default)]
struct Pending {
    files: Mutex<HashMap<Inode, LostState>>,
    changed: Condvar,
    /// How many `files` has, so that a common request takes no lock.
    count: AtomicUsize,
}

/// A file that is still to be repaired, or was cut and not written since by a descriptor with the report.
#[derive(Debug, Clone, Copy, Default)]
struct LostState {
    /// Failures that are not repaired yet.
    failures: u64,
    /// The kernel's length is more than the vault's.
    too_long: bool,
    /// The file was cut: a write-back behind its end belongs to a write(2) from before the cut.
    cut: bool,
    /// The failure was reported, or a write-back refused, since the last cut began.
    again: bool,
}

/// How long a stat(2) waits for the repair at most.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between the first cut and the second: what most writes take from the reply about the
/// attributes to the kernel's inode lock.
const SECOND_CUT_DELAY: Duration = Duration::from_millis(20);

impl Pending {
    fn wait_for(&self, inode: Inode, deadline: Instant) {
        let mut files = self.files.lock();
        let pending = |files: &mut HashMap<Inode, LostState>| {
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

    fn find(&self, inode: Inode) -> Option<LostState> {
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

    /// Has the file cut again, if it is too long. Returns whether the thread has to be woken.
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

    /// So many failures of a file were repaired; `false` where it must be cut again before.
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

    /// A file is not cut again for the failures so far.
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
    /// Whether it is kept open until the repair.
    held: bool,
}

/// The offset for no pages: the notification drops the attributes alone (-1).
const NO_PAGES: u64 = u64::MAX;

/// The failed writes of one file.
struct Losses {
    /// The lowest offset.
    offset: u64,
    failures: u64,
    holds: u64,
}

impl LostWrites {
    /// The kernel's write-back of the range `lost` has failed.
    pub(super) fn note(
        &self,
        fs: &Arc<Fs>,
        notifier: Option<&Notifier>,
        mount: &MountId,
        (inode, lost): (Inode, Range<u64>),
    ) {
        let Some(notifier) = notifier else { return };
        self.pending.add(inode, fs.is_too_long(inode, lost.end));
        // After that, so that from now on each write that asks is refused. It drops no page, and waits for
        // none.
        log_error(notifier.inval_inode(INodeNo(inode.0), -1, 0));
        let sender = self.sender.get_or_init(|| {
            let (sender, receiver) = channel();
            let repairer = Repairer {
                fs: Arc::clone(fs),
                notifier: notifier.clone(),
                mount: mount.clone(),
                pending: Arc::clone(&self.pending),
            };
            let thread = thread::Builder::new().name("lost writes".to_owned());
            thread.spawn(move || repairer.run(&receiver)).ok().map(|_| sender)
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

    /// The failure was reported to a descriptor, or a write-back that would make the file longer refused.
    pub(super) fn cut_again(&self, fs: &Fs, inode: Inode) {
        if self.pending.cut_again(inode)
            && let Some(Some(sender)) = self.sender.get()
        {
            // The thread ends with the process alone.
            let _ = sender.send(Lost { inode, offset: NO_PAGES, held: fs.keep_open(inode) });
        }
    }

    /// A descriptor with the report is about to write the file, or the last one for writing is closed: from
    /// now on it may get longer.
    pub(super) fn forget(&self, inode: Inode) {
        self.pending.forget(inode);
    }

    /// Whether the kernel may show more of a file than the vault has.
    pub(super) fn is_pending(&self, inode: Inode) -> bool {
        self.pending.find(inode).is_some_and(|file| file.failures > 0)
    }

    /// Whether a file is to be cut, and may not be written before.
    pub(super) fn refuses_writes(&self, inode: Inode) -> bool {
        self.pending.find(inode).is_some_and(|file| file.too_long && file.failures > 0)
    }

    /// The file was cut, which the kernel does not know yet.
    pub(super) fn note_cut(&self, inode: Inode) {
        self.pending.note_cut(inode);
    }

    /// Whether a file was cut, so that no write-back may make it longer.
    pub(super) fn refuses_growth(&self, inode: Inode) -> bool {
        self.pending.find(inode).is_some_and(|file| file.cut)
    }

    /// Runs `answer` on another thread after the repair, or after [`REPAIR_TIMEOUT`].
    pub(super) fn once_repaired(&self, inode: Inode, answer: impl FnOnce() + Send + 'static) {
        let (pending, deadline) = (Arc::clone(&self.pending), Instant::now() + REPAIR_TIMEOUT);
        self.waiting.submit(move || {
            pending.wait_for(inode, deadline);
            answer();
        });
    }
}

struct Repairer {
    fs: Arc<Fs>,
    notifier: Notifier,
    mount: MountId,
    pending: Arc<Pending>,
}

impl Repairer {
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
                log_error(drop());
                // At most once for each descriptor, and for each write-back that was under way.
                while !self.pending.done(inode, lost.failures) {
                    self.cut_once(inode);
                    log_error(drop());
                }
                for _ in 0..lost.holds {
                    // What a release leaves undone is tried again.
                    let _ = self.fs.release(inode);
                }
            }
        }
    }

    fn cut_twice(&self, files: impl Iterator<Item = Inode>) {
        let is_too_long =
            |&inode: &Inode| self.pending.find(inode).is_some_and(|file| file.too_long);
        // A file without a name, or in a mount that can't be reached any more, is not cut. The kernel keeps
        // its length, and the vault has the same one, with a hole.
        let cut = files.filter(is_too_long).filter(|&inode| self.cut_once(inode));
        let cut: Vec<Inode> = cut.collect();
        if cut.is_empty() {
            return;
        }
        thread::sleep(SECOND_CUT_DELAY);
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

    /// Truncates the file through the mount. The reply has the length that the vault has.
    fn cut(&self, inode: Inode) -> io::Result<()> {
        let root = sys::open_directory_at(CWD, &self.mount.path, OFlags::PATH)?;
        let file = self.find(&root, inode)?;
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

/// ENOENT: the kernel has forgotten the inode, and keeps nothing of it.
fn log_error(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        log::warn!("the kernel keeps content of a file that the vault does not have: {error}");
    }
}
