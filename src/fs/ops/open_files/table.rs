//! The table of open files: one for each inode, however often it is opened.
//!
//! A file whose last user left, and whose header or times could not be brought up to date then,
//! stays in the table without users: it is tried again when it is opened, by a timer, and at the
//! end of the mount.

use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use dashmap::DashMap;
use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use super::access_times::{AccessTimes, AtimeUpdates};
use super::backing::{open_despite_mode, open_quietly, reopen_writable};
use super::change_times::ChangeTimes;
use super::open_file::{OpenFile, in_some_file};
use super::unsynced::{Unsynced, UnsyncedFiles};
use crate::fs::descriptors::for_program;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::namespace::key_locks::KeyLocks;
use crate::fs::{FsError, Inode};
use crate::store::{Access, Context, FileError, RealFile, SealedFile};

/// The open files, by inode. Each is held open by as many users as acquired it.
#[derive(Debug)]
pub struct OpenFiles {
    /// Nothing that waits for a disk, or for a file's own locks, is done while a part of the table
    /// is locked.
    files: DashMap<Inode, Shared>,
    /// By inode: held while a file is opened that is not in the table, or must stay out of it.
    /// Before the table's own locks.
    opening: KeyLocks,
    context: Arc<Context>,
    access: Access,
    unsynced: Unsynced,
    /// Whether a thread tries again what could not be brought up to date.
    retrying: AtomicBool,
    this: Weak<Self>,
    change_times: Arc<ChangeTimes>,
    access_times: OnceLock<AccessTimes>,
}

/// Intervals between the attempts to bring a file up to date: the first, and the longest. Each is
/// twice as long as the one before.
const RETRY_INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);

struct Shared {
    file: Arc<OpenFile>,
    users: AtomicU64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "open file with {} users", self.users.load(Ordering::Relaxed))
    }
}

impl OpenFiles {
    /// For the files of one vault.
    pub fn new(context: Arc<Context>, access: Access, change_times: Arc<ChangeTimes>) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            files: DashMap::new(),
            opening: KeyLocks::default(),
            context,
            access,
            unsynced: Unsynced::default(),
            retrying: AtomicBool::new(false),
            this: Weak::clone(this),
            change_times,
            access_times: OnceLock::new(),
        })
    }

    /// When a read moves the time of access. The first call holds.
    pub fn keep_access_times(&self, when: AccessTimes) {
        self.access_times.get_or_init(|| when);
    }

    /// The file, if it is open.
    pub fn find(&self, inode: Inode) -> Option<Arc<OpenFile>> {
        self.files.get(&inode).map(|shared| Arc::clone(&shared.file))
    }

    /// One more user of the file, if it is open.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of open(2), where it is to be reopened `for_writing`.
    pub fn acquire_open(
        &self,
        inode: Inode,
        for_writing: bool,
    ) -> Result<Option<Arc<OpenFile>>, FsError> {
        let Some(file) = self.share(inode) else { return Ok(None) };
        let make_writable = || {
            let writable = for_program(reopen_writable(file.backing())?)?;
            file.backing().make_writable(writable);
            Ok::<_, FsError>(())
        };
        if for_writing
            && !file.backing().is_writable()
            && let Err(error) = make_writable()
        {
            // The caller learns of the first error.
            let _ = self.release(inode);
            return Err(error);
        }
        Ok(Some(file))
    }

    /// One more user of the file, if it is in the table.
    fn share(&self, inode: Inode) -> Option<Arc<OpenFile>> {
        let shared = self.files.get(&inode)?;
        shared.users.fetch_add(1, Ordering::Relaxed);
        Some(Arc::clone(&shared.file))
    }

    /// Puts a file that was just opened into the table, for one user.
    fn insert(&self, inode: Inode, file: &Arc<OpenFile>) {
        let shared = Shared { file: Arc::clone(file), users: AtomicU64::new(1) };
        self.files.insert(inode, shared);
    }

    /// Opens the file for one more user, from `at_path` if it is not open yet. `stat` shows what was
    /// opened there, if it is the file.
    ///
    /// # Errors
    /// [`FsError::Stale`] when something else lies there; [`FsError::Backing`] with the error of
    /// openat(2) or fstat(2).
    pub fn acquire(
        &self,
        inode: Inode,
        at_path: &AtPath,
        for_writing: bool,
        stat: impl FnOnce(BorrowedFd<'_>) -> Result<Stat, FsError>,
    ) -> Result<Arc<OpenFile>, FsError> {
        let _opening = self.opening.write(inode.0);
        if let Some(file) = self.acquire_open(inode, for_writing)? {
            return Ok(file);
        }
        let file = for_program(self.open_backing(at_path, self.access, for_writing)?)?;
        let stat = stat(file.as_fd())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(FsError::Stale);
        }
        let file = self.seal(inode, file, AtimeUpdates::Off, &stat)?;
        self.carry_over(inode, &file);
        self.insert(inode, &file);
        Ok(file)
    }

    /// Opens for one more user the file that [`OpenFiles::open_found`] has opened.
    ///
    /// # Errors
    /// [`FsError::File`] for a size that no sealed file has; [`FsError::Backing`] with the error of
    /// fstat(2).
    pub fn acquire_found(&self, inode: Inode, found: RealFile) -> Result<Arc<OpenFile>, FsError> {
        let _opening = self.opening.write(inode.0);
        if let Some(file) = self.share(inode) {
            return Ok(file);
        }
        // It may have grown since it was found.
        let stat = rustix::fs::fstat(&found)?;
        let file = self.seal(inode, found, AtimeUpdates::Off, &stat)?;
        self.carry_over(inode, &file);
        self.insert(inode, &file);
        Ok(file)
    }

    /// Opens the regular file at `at_path` without waiting for a writer or a lease, and
    /// for writing where that is allowed; returns what stat says of it, too.
    ///
    /// # Errors
    /// [`FsError::Stale`] when something else lies there; [`FsError::Backing`] with the error of
    /// openat(2) or fstat(2).
    pub fn open_found(
        &self,
        at_path: &AtPath,
        access: Access,
    ) -> Result<(RealFile, Stat), FsError> {
        let file = self.open_backing(at_path, access, false)?;
        let stat = rustix::fs::fstat(&file)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((file, stat)),
            _ => Err(FsError::Stale),
        }
    }

    /// Does `work` while the file is not open and can't be opened. `Err` is the file that is open.
    pub fn while_closed<T>(
        &self,
        inode: Inode,
        work: impl FnOnce() -> T,
    ) -> Result<T, Arc<OpenFile>> {
        let _opening = self.opening.write(inode.0);
        match self.find(inode) {
            Some(file) => Err(file),
            None => Ok(work()),
        }
    }

    /// Takes over a new, empty file that is open as `fd` and looks as `made`, for one user.
    ///
    /// # Errors
    /// None that a new file gives: those of [`SealedFile::open`].
    pub fn adopt(&self, inode: Inode, fd: OwnedFd, made: &Stat) -> Result<Arc<OpenFile>, FsError> {
        let _opening = self.opening.write(inode.0);
        // A walk over all files may have opened it since it was made.
        if let Some(file) = self.share(inode) {
            file.backing().make_writable(fd);
            return Ok(file);
        }
        let file = self.seal(inode, RealFile::new(fd, true), AtimeUpdates::On, made)?;
        self.insert(inode, &file);
        Ok(file)
    }

    /// One user less; the last one leaves the header on disk up to date.
    ///
    /// # Errors
    /// [`FileError`]: the file has no user any more, and is tried again.
    pub fn release(&self, inode: Inode) -> Result<(), FileError> {
        let mut flushed = Ok(());
        loop {
            let mut dirty = None;
            // Closed last, without the table's lock.
            let mut too_many = UnsyncedFiles::default();
            let removed = self.files.remove_if(&inode, |_, shared| {
                let last = shared.users.load(Ordering::Relaxed) == 1;
                if last && flushed.is_ok() && shared.file.may_be_dirty() {
                    dirty = Some(Arc::clone(&shared.file));
                    return false;
                }
                shared.users.fetch_sub(1, Ordering::Relaxed);
                let closes = last && (flushed.is_ok() || shared.file.is_nameless());
                if closes {
                    // Before it leaves the table: `finish` is to find it here or there.
                    too_many = self.unsynced.keep(inode, &shared.file);
                }
                closes
            });
            // Not under the table's lock, which others wait for: until the next look, this user
            // keeps the file open.
            if let Some(file) = dirty {
                flushed = file.flush_metadata();
                if let Err(error) = &flushed {
                    file.log_header_failure(error);
                }
                continue;
            }
            if removed.is_none() && flushed.is_err() {
                self.retry_later();
            }
            return flushed;
        }
    }

    /// Brings the headers of all files up to date that are still in the table, and makes durable
    /// what was not synced; returns those of which that failed. Whether all files that were written
    /// in this mount are durable then: there may have been more than are remembered.
    pub fn finish(&self) -> (Vec<(Inode, FileError)>, bool) {
        let (files, kept) = self.left();
        let finish = |file: &OpenFile| {
            file.flush_metadata()?;
            if file.is_unsynced() { file.sync(true) } else { Ok(()) }
        };
        let mut failed: Vec<_> = files
            .iter()
            .filter(|(_, file)| !file.is_nameless())
            .filter_map(|(inode, file)| finish(file).err().map(|error| (*inode, error)))
            .collect();
        failed.extend(kept.sync());
        (failed, kept.is_all())
    }

    /// The files in the table, and those that were closed without being durable. One that is closed
    /// meanwhile, by the thread that tries again, is in one of both, or in both.
    pub fn left(&self) -> (Vec<(Inode, Arc<OpenFile>)>, UnsyncedFiles) {
        let files = self.files.iter();
        let files = files.map(|entry| (*entry.key(), Arc::clone(&entry.file))).collect();
        (files, self.unsynced.take())
    }

    /// One more user of a file that is open; whether it was.
    pub fn hold(&self, inode: Inode) -> bool {
        self.files.get(&inode).map(|shared| shared.users.fetch_add(1, Ordering::Relaxed)).is_some()
    }

    /// A file's last name is gone, so it need not be brought up to date any more. Returns what is
    /// left to be closed.
    pub fn nameless(&self, inode: Inode) -> Option<OwnedFd> {
        self.files.remove_if(&inode, |_, shared| shared.users.load(Ordering::Relaxed) == 0);
        self.unsynced.forget(inode)
    }

    /// Closes the files that wait for the mount's end to become durable: all of the filesystem will be.
    pub fn close_unsynced(&self) {
        self.unsynced.clear();
    }

    /// The files without users, which are owed something.
    fn dirty_unused(&self) -> Vec<Inode> {
        let unused = self.files.iter().filter(|entry| entry.users.load(Ordering::Relaxed) == 0);
        unused.map(|entry| *entry.key()).collect()
    }

    /// Starts the timer, unless it runs. It ends when nothing is owed.
    fn retry_later(&self) {
        if self.retrying.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Weak::clone(&self.this);
        let thread = std::thread::Builder::new().name("retry".to_owned());
        if thread.spawn(move || retry(&this)).is_err() {
            // The next failure starts it, and the end of the mount tries all of them.
            self.retrying.store(false, Ordering::Release);
        }
    }

    /// Runs `work` on every file that is open. It stays open meanwhile: two of one file would not
    /// know of each other's header.
    pub fn each<T>(
        &self,
        work: impl Fn(Inode, &OpenFile) -> Result<T, FsError>,
    ) -> Vec<(Inode, Result<T, FsError>)> {
        let open: Vec<Inode> = self.files.iter().map(|entry| *entry.key()).collect();
        let acquire = |inode| {
            let shared = self.files.get(&inode)?;
            shared.users.fetch_add(1, Ordering::Relaxed);
            Some((inode, Arc::clone(&shared.file)))
        };
        open.into_iter()
            .filter_map(acquire)
            .map(|(inode, file)| {
                let result = work(inode, &file);
                drop(file);
                (inode, result.and_then(|done| in_some_file(self.release(inode)).map(|()| done)))
            })
            .collect()
    }

    /// A file that was closed without being durable is open again: the next sync of it makes it
    /// durable.
    fn carry_over(&self, inode: Inode, file: &OpenFile) {
        if self.unsynced.forget(inode).is_some() {
            file.mark_unsynced();
        }
    }

    fn seal(
        &self,
        inode: Inode,
        file: RealFile,
        atime_updates: AtimeUpdates,
        stat: &Stat,
    ) -> Result<Arc<OpenFile>, FsError> {
        let size = stat.st_size as u64;
        let sealed = in_some_file(SealedFile::open(file, size, Arc::clone(&self.context)))?;
        let change_times = Arc::clone(&self.change_times);
        let access_times = self.access_times.get().copied().unwrap_or_default();
        let file = OpenFile::new(sealed, inode, stat, change_times, access_times, atime_updates);
        Ok(Arc::new(file))
    }

    /// Opens for both reading and writing where that is allowed, so that a block can be read
    /// back before part of it is written.
    fn open_backing(
        &self,
        at_path: &AtPath,
        access: Access,
        for_writing: bool,
    ) -> Result<RealFile, FsError> {
        let flags = OFlags::NONBLOCK;
        let open = |access| open_quietly(at_path, access | flags);
        if access == Access::ReadOnly || self.access == Access::ReadOnly {
            return match open(OFlags::RDONLY) {
                Err(Errno::ACCESS) if self.access == Access::ReadWrite => {
                    open_despite_mode(at_path, OFlags::RDONLY | flags)
                }
                opened => Ok(RealFile::new(opened?, false)),
            };
        }
        match open(OFlags::RDWR) {
            Ok(fd) => Ok(RealFile::new(fd, true)),
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY) if !for_writing => {
                match open(OFlags::RDONLY) {
                    Ok(fd) => Ok(RealFile::new(fd, false)),
                    Err(Errno::ACCESS) => open_despite_mode(at_path, OFlags::RDONLY | flags),
                    Err(errno) => Err(errno.into()),
                }
            }
            Err(Errno::ACCESS) => open_despite_mode(at_path, OFlags::RDWR | flags),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Tries the files that are owed something again and again, until there is none.
fn retry(files: &Weak<OpenFiles>) {
    let mut interval = *RETRY_INTERVALS.start();
    loop {
        std::thread::sleep(interval);
        interval = (interval * 2).min(*RETRY_INTERVALS.end());
        let Some(files) = files.upgrade() else { return };
        for inode in files.dirty_unused() {
            if let Some(shared) = files.files.get(&inode) {
                shared.users.fetch_add(1, Ordering::Relaxed);
                drop(shared);
                // A failure leaves it in the table.
                let _ = files.release(inode);
            }
        }
        if files.dirty_unused().is_empty() {
            files.retrying.store(false, Ordering::Release);
            // One that came between the two begins anew.
            if files.dirty_unused().is_empty() || files.retrying.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}
