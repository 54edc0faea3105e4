//! One open file of the vault, with the times that the kernel keeps of it.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use log::Level;
use parking_lot::Mutex;
use rustix::fs::Stat;
use rustix::io::Errno;

use super::access_times::{self, AccessTimes, AtimeUpdates};
use super::backing::reopen_writable;
use super::cached_times::{CachedTimes, Times};
use super::change_times::{ChangeTime, ChangeTimes};
use super::failures::Failures;
use super::reported_blocks::ReportedBlocks;
use crate::fs::namespace::inode::modified;
use crate::fs::ops::change::{Change, Time, timestamps};
use crate::fs::{FsError, Inode, Origin};
use crate::store::{
    FileError, RealFile, Recovered, RewrapTarget, Rewrapped, SealedFile, SyncScope, log_failure,
};
use crate::sys::{self, Show};

/// A file that keeps failing has a line in the log so often at most.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// An open file of a vault.
pub struct OpenFile {
    sealed: SealedFile<RealFile>,
    inode: Inode,
    /// Held while the backing file's times are moved and restored, so that no stat shows the moved
    /// ones. Before the locks of `sealed`.
    times: Times,
    change_times: Arc<ChangeTimes>,
    access_times: AccessTimes,
    /// Whether the next read of a program moves the time of access.
    atime_is_due: AtomicBool,
    /// Whether what is read through the file's descriptor moves it.
    reads_move_atime: AtomicBool,
    reported_blocks: ReportedBlocks,
    /// Of syncing it.
    pub failed_syncs: Failures,
    /// Of writing what the kernel had in its cache.
    pub failed_writes: Failures,
    header_failure_logged: AtomicBool,
    /// When that was last logged.
    write_failure_logged: Mutex<Option<Instant>>,
}

impl Deref for OpenFile {
    type Target = SealedFile<RealFile>;

    fn deref(&self) -> &Self::Target {
        &self.sealed
    }
}

impl OpenFile {
    /// A file that was just opened and looks as `stat`, with `O_NOATIME` for [`AtimeUpdates::Off`].
    pub fn new(
        sealed: SealedFile<RealFile>,
        inode: Inode,
        stat: &Stat,
        change_times: Arc<ChangeTimes>,
        access_times: AccessTimes,
        atime_updates: AtimeUpdates,
    ) -> Self {
        let ctime = change_times.shown(inode, stat);
        let times = CachedTimes { mtime: None, passed: false, ctime, moved: false };
        let reported_blocks = ReportedBlocks::new(stat.st_blocks as u64);
        let atime_is_due = AtomicBool::new(access_times.is_due(stat));
        let times = Times { cached: Mutex::new(times), has_write_back: AtomicBool::new(false) };
        Self {
            sealed,
            inode,
            times,
            change_times,
            access_times,
            atime_is_due,
            reads_move_atime: AtomicBool::new(atime_updates == AtimeUpdates::On),
            reported_blocks,
            failed_syncs: Failures::default(),
            failed_writes: Failures::default(),
            header_failure_logged: AtomicBool::new(false),
            write_failure_logged: Mutex::new(None),
        }
    }

    /// Its inode.
    pub fn inode(&self) -> Inode {
        self.inode
    }

    /// The number of blocks that the kernel was given.
    pub fn reported_blocks(&self) -> &ReportedBlocks {
        &self.reported_blocks
    }

    /// After a write of so many bytes out of the kernel's cache: whether the file has far more
    /// blocks than the kernel was given. The new number then counts as given.
    pub fn outgrows_reported_blocks(&self, bytes: usize) -> bool {
        let blocks = || Ok(rustix::fs::fstat(self.sealed.backing())?.st_blocks as u64);
        self.reported_blocks.outgrown(bytes as u64, blocks)
    }

    /// Whether something of it may not have been written to the vault that no user will: its header,
    /// or a modification time. Waits for no lock: while the file is at work it may.
    pub fn may_be_dirty(&self) -> bool {
        self.sealed.may_need_commit() || self.times.try_lock().is_none_or(|times| times.moved)
    }

    /// Whether its last name is gone.
    pub fn is_nameless(&self) -> bool {
        rustix::fs::fstat(self.sealed.backing()).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Logs what keeps its header from being written: once, until it was written.
    pub fn log_header_failure(&self, error: &FileError) {
        if !self.header_failure_logged.swap(true, Ordering::Relaxed) {
            let path = self.stored_path();
            let path = path.shown();
            log_failure(
                Level::Error,
                format_args!("{path}: its header can't be written, and is tried again: {error}"),
            );
        }
    }

    /// Logs that something of the kernel's cache could not be written: once a while.
    pub fn log_write_failure(&self, error: &FileError) {
        let mut last = self.write_failure_logged.lock();
        if last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            let path = self.stored_path();
            let (path, end) = (path.shown(), self.sealed.written_len());
            let logged = log_failure(
                Level::Error,
                format_args!(
                    "{path}: what programs wrote behind byte {end} can't be written: {error}"
                ),
            );
            *last = logged.then(Instant::now).or(*last);
        }
    }

    /// Its path in the vault, for the log.
    fn stored_path(&self) -> PathBuf {
        sys::link_target(self.sealed.backing()).unwrap_or_default()
    }

    /// Sets attributes by `apply`, and notes the times that `change` names. Nothing puts older ones
    /// back meanwhile.
    pub fn change<E>(
        &self,
        change: &Change,
        apply: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut times = self.times.lock();
        apply()?;
        times.moved = true;
        match change.mtime {
            Some(Time::At(time)) => (times.mtime, times.passed) = (Some(time), false),
            Some(Time::Now) => (times.mtime, times.passed) = (None, false),
            None => {}
        }
        if let Some(ctime) = change.ctime {
            times.ctime = ctime.into();
        }
        Ok(())
    }

    /// Sets the times that `change` names, of a file that was cut. No error undoes that, so where it
    /// fails the modification time is set later, with the header.
    pub fn change_times_after_cut(&self, change: &Change) {
        let set = self
            .change(change, || rustix::fs::futimens(self.sealed.backing(), &timestamps(change)));
        if set.is_err() {
            let mtime = match change.mtime {
                Some(Time::At(time)) => time,
                Some(Time::Now) | None => SystemTime::now(),
            };
            let mut times = self.times.lock();
            (times.mtime, times.passed, times.moved) = (Some(mtime), true, true);
            times.ctime = change.ctime.map_or(times.ctime, ChangeTime::from);
        }
    }

    /// Its stat, with the time of change to show, and never with a time that a header write moved.
    pub fn stat(&self) -> rustix::io::Result<Stat> {
        let times = self.times.lock();
        let mut stat = self.backing_stat()?;
        let shown = if self.change_times.does_kernel_keep_them() {
            times.ctime
        } else {
            self.change_times.shown(self.inode, &stat)
        };
        (stat.st_ctime, stat.st_ctime_nsec) = shown.parts();
        Ok(stat)
    }

    /// Before a change of the content, for which some may be read back: notes the modification time
    /// where the kernel keeps it.
    pub fn begin_change(&self, origin: Origin) -> rustix::io::Result<()> {
        if !self.sealed.is_empty() {
            self.keep_access_time();
        }
        if self.does_kernel_keep_times(origin) && !self.times.has_write_back() {
            let mut times = self.times.lock();
            if times.mtime.is_none() {
                times.mtime = Some(modified(&self.backing_stat()?));
            }
        }
        Ok(())
    }

    /// After a change of the content that was done.
    pub fn end_change(&self, origin: Origin) {
        let kernel_keeps_times = self.does_kernel_keep_times(origin);
        if kernel_keeps_times && self.times.has_write_back() {
            return;
        }
        let mut times = self.times.lock();
        (times.passed, times.moved) = (true, true);
        self.atime_is_due.store(self.access_times != AccessTimes::Never, Ordering::Relaxed);
        if kernel_keeps_times {
            self.times.has_write_back.store(times.mtime.is_some(), Ordering::SeqCst);
        } else {
            times.mtime = None;
        }
    }

    /// Before a program reads: has that move the time of access, if it is due.
    pub fn note_access(&self) -> rustix::io::Result<()> {
        if !self.atime_is_due.load(Ordering::Relaxed) {
            return Ok(());
        }
        if self.access_times == AccessTimes::Strict {
            // The backing filesystem's own rule may be another.
            let change = Change { atime: Some(Time::Now), ..Change::default() };
            let set = |_: &mut _| rustix::fs::futimens(self.sealed.backing(), &timestamps(&change));
            return self.preserving_ctime(&mut self.times.lock(), set);
        }
        self.atime_is_due.store(false, Ordering::SeqCst);
        // The next write-back makes it due again. In this order: one that ends meanwhile is not lost.
        self.times.has_write_back.store(false, Ordering::SeqCst);
        self.let_reads_move_atime(true)
    }

    /// Before a read that is no program's, or is not to move the time of access.
    pub fn keep_access_time(&self) {
        if let Err(errno) = self.let_reads_move_atime(false) {
            log::debug!("inode {}: its time of access moves: {errno}", self.inode.0);
        }
    }

    fn let_reads_move_atime(&self, moves: bool) -> rustix::io::Result<()> {
        if self.reads_move_atime.load(Ordering::Relaxed) == moves {
            return Ok(());
        }
        self.reads_move_atime.store(moves, Ordering::Relaxed);
        access_times::let_reads_move(self.sealed.backing(), moves)
    }

    fn does_kernel_keep_times(&self, origin: Origin) -> bool {
        origin == Origin::Cache || self.change_times.does_kernel_keep_them()
    }

    fn backing_stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::fstat(self.sealed.backing())
    }

    /// Does work of the daemon's own, after which stat shows the same time of change as before.
    fn preserving_ctime<T, E: From<Errno>>(
        &self,
        times: &mut CachedTimes,
        work: impl FnOnce(&mut CachedTimes) -> Result<T, E>,
    ) -> Result<T, E> {
        let shown = if self.change_times.does_kernel_keep_them() {
            times.ctime
        } else {
            self.change_times.shown(self.inode, &self.backing_stat()?)
        };
        let done = work(times);
        self.change_times.note(self.inode, &self.backing_stat()?, shown);
        done
    }

    /// Brings the wrapped key to the newest version of the master key `to`, or of its own.
    ///
    /// # Errors
    /// [`FsError`]: the header is then the old one.
    pub fn rewrap(&self, to: RewrapTarget) -> Result<Rewrapped, FsError> {
        let mut times = self.times.lock();
        self.keep_access_time();
        if !self.backing().is_writable() {
            match in_some_file(self.sealed.try_rewrap(to))? {
                Rewrapped::Done => {}
                nothing_to_do => return Ok(nothing_to_do),
            }
        }
        self.preserving_ctime(&mut times, |_| {
            if !self.backing().is_writable() {
                self.backing().make_writable(reopen_writable(self.backing())?);
            }
            in_some_file(self.sealed.rewrap(to))
        })
    }

    /// Brings the header up to date with what a crash left. The times stay.
    ///
    /// # Errors
    /// [`FsError`].
    pub fn recover(&self) -> Result<(), FsError> {
        self.keep_access_time();
        in_some_file(self.sealed.prepare_recovery())?;
        let mut times = self.times.lock();
        self.preserving_ctime(&mut times, |_| {
            if !self.backing().is_writable() {
                self.backing().make_writable(reopen_writable(self.backing())?);
            }
            let mtime = modified(&self.backing_stat()?);
            if in_some_file(self.sealed.recover())? == Recovered::Zeroed {
                let change = Change { mtime: Some(Time::At(mtime)), ..Change::default() };
                rustix::fs::futimens(self.sealed.backing(), &timestamps(&change))?;
            }
            Ok(())
        })
    }

    /// Makes content and length durable, and with `metadata` the times and modes too.
    ///
    /// # Errors
    /// As [`SealedFile::sync`].
    pub fn sync(&self, metadata: bool) -> Result<(), FileError> {
        // Where the kernel keeps the times, the next settling puts them right.
        if !self.change_times.does_kernel_keep_them() {
            let mut times = self.times.lock();
            if times.moved {
                self.preserving_ctime(&mut times, |_| self.sealed.commit())?;
            }
        }
        self.sealed.sync(if metadata { SyncScope::All } else { SyncScope::Content })
    }

    /// Brings the header on disk up to date, and the times back to what was set.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn flush_metadata(&self) -> Result<(), FileError> {
        let mut times = self.times.lock();
        if !times.moved {
            return self.sealed.commit();
        }
        self.preserving_ctime(&mut times, |times| {
            if let (Some(time), true) = (times.mtime, times.passed) {
                let change = Change { mtime: Some(Time::At(time)), ..Change::default() };
                rustix::fs::futimens(self.sealed.backing(), &timestamps(&change))?;
            }
            self.sealed.commit()?;
            // Not before: a commit that failed may have moved the time once more.
            (times.passed, times.moved) = (false, false);
            self.header_failure_logged.store(false, Ordering::Relaxed);
            Ok(())
        })
    }
}

/// The error of a file whose path the caller knows.
///
/// # Errors
/// The same, without a path.
pub fn in_some_file<T>(result: Result<T, FileError>) -> Result<T, FsError> {
    result.map_err(|error| FsError::File { path: PathBuf::new(), error })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::*;
    use crate::format::VaultId;
    use crate::keys::KeyRing;
    use crate::store::{Context, EpochRecord};

    #[test]
    fn a_settling_that_failed_sets_the_modification_time_again() {
        let memory = File::from(memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap());
        let backing = RealFile::new(memory.try_clone().unwrap().into(), true);
        let ring = KeyRing::create(VaultId::random());
        let context = Arc::new(Context::new(ring, EpochRecord::default().begin()));
        let stat = rustix::fs::fstat(&memory).unwrap();
        let sealed = SealedFile::open(backing, 0, context).unwrap();
        let (times, reads) = (Arc::default(), AccessTimes::Never);
        let file = OpenFile::new(sealed, Inode(2), &stat, times, reads, AtimeUpdates::Off);
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        memory.set_modified(day).unwrap();

        file.begin_change(Origin::Cache).unwrap();
        file.write_back(0, &[1; 100], |write| write()).unwrap();
        file.write_back(9000, &[1; 100], |write| write()).unwrap();
        file.end_change(Origin::Cache);
        fcntl_add_seals(&memory, SealFlags::WRITE).unwrap();
        for _ in 0..2 {
            // As a filesystem does whose write fails late.
            memory.set_modified(SystemTime::now()).unwrap();
            file.flush_metadata().unwrap_err();
            assert_eq!(memory.metadata().unwrap().modified().unwrap(), day);
        }
    }
}
