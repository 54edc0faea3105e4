//! One file of the vault that somebody has open, with the times that the kernel keeps of it.

use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags, Stat};
use rustix::io::Errno;

use super::FsError;
use super::attrs::{Change, Time, timestamps};
use super::failures::Failures;
use super::inode::modified;
use super::told_blocks::ToldBlocks;
use crate::format::MasterKeyId;
use crate::store::{FileError, RealFile, Rewrapped, SealedFile};

/// A file of a real vault that somebody has open.
pub struct OpenFile {
    sealed: SealedFile<RealFile>,
    mtime: Mutex<CachedMtime>,
    told_blocks: ToldBlocks,
    /// Of syncing it.
    pub failed_syncs: Failures,
    /// Of writing what the kernel had in its cache.
    pub failed_writes: Failures,
    complained: AtomicBool,
    write_failed: AtomicBool,
}

/// With the writeback cache the kernel keeps the modification time. It sets it by and by, or not
/// at all where a write found it as it should be; what it writes back later must not move it.
#[derive(Debug, Default)]
struct CachedMtime {
    /// The time that the kernel last set, or found when it began to write back.
    set: Option<SystemTime>,
    /// Whether the kernel's cache was written from since.
    passed: bool,
}

impl Deref for OpenFile {
    type Target = SealedFile<RealFile>;

    fn deref(&self) -> &Self::Target {
        &self.sealed
    }
}

impl OpenFile {
    /// A file that was just opened and has so many blocks of 512 bytes.
    pub fn new(sealed: SealedFile<RealFile>, blocks: u64) -> Self {
        Self {
            sealed,
            mtime: Mutex::default(),
            told_blocks: ToldBlocks::new(blocks),
            failed_syncs: Failures::default(),
            failed_writes: Failures::default(),
            complained: AtomicBool::new(false),
            write_failed: AtomicBool::new(false),
        }
    }

    /// What the kernel was told of its space.
    pub fn told_blocks(&self) -> &ToldBlocks {
        &self.told_blocks
    }

    /// Whether the file has by now far more space than the kernel was told of, after a write of so
    /// many bytes out of its cache. It is then as good as told.
    pub fn outgrows_told_blocks(&self, bytes: usize) -> bool {
        let blocks = || Ok(rustix::fs::fstat(self.sealed.backing())?.st_blocks as u64);
        self.told_blocks.outgrown(bytes as u64, blocks)
    }

    /// Whether something of it has not been written to the vault that no user will: its header, or
    /// a modification time.
    pub fn owes(&self) -> bool {
        self.sealed.owes_commit() || self.mtime.lock().passed
    }

    /// Whether its last name is gone.
    pub fn is_nameless(&self) -> bool {
        rustix::fs::fstat(self.sealed.backing()).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// The descriptor that it was opened with.
    pub fn into_fd(self) -> OwnedFd {
        self.sealed.into_backing().into_fd()
    }

    /// Logs what keeps its header from being written: once, until it was written.
    pub fn complain(&self, error: &FileError) {
        if !self.complained.swap(true, Ordering::Relaxed) {
            let path = self.stored_path();
            let path = path.display();
            log::error!("{path}: its header can't be written, and is tried again: {error}");
        }
    }

    /// Logs that something of the kernel's cache could not be written: once, until something could.
    pub fn complain_of_write(&self, error: &FileError) {
        if !self.write_failed.swap(true, Ordering::Relaxed) {
            let path = self.stored_path();
            let (path, end) = (path.display(), self.sealed.written_len());
            log::error!("{path}: what programs wrote behind byte {end} can't be written: {error}");
        }
    }

    /// Its path in the vault, for the log.
    fn stored_path(&self) -> PathBuf {
        let fd = self.sealed.backing().as_fd().as_raw_fd();
        std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default()
    }

    /// Sets attributes by `apply`, and notes the modification time that `change` names. Nothing
    /// puts an older one back meanwhile.
    pub fn change<E>(
        &self,
        change: &Change,
        apply: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut mtime = self.mtime.lock();
        apply()?;
        match change.mtime {
            Some(Time::At(time)) => *mtime = CachedMtime { set: Some(time), passed: false },
            Some(Time::Now) => *mtime = CachedMtime::default(),
            None => {}
        }
        Ok(())
    }

    /// What stat says of it, never with the modification time of a header write.
    pub fn stat(&self) -> rustix::io::Result<Stat> {
        let _mtime = self.mtime.lock();
        rustix::fs::fstat(self.sealed.backing())
    }

    /// Notes the modification time before a write out of the kernel's cache.
    pub fn keep_mtime(&self) -> rustix::io::Result<()> {
        let mut mtime = self.mtime.lock();
        if mtime.set.is_none() {
            mtime.set = Some(modified(&rustix::fs::fstat(self.sealed.backing())?));
        }
        Ok(())
    }

    /// Notes a write that was done, out of the kernel's cache or by a program.
    pub fn note_write(&self, cached: bool) {
        let mut mtime = self.mtime.lock();
        mtime.passed = true;
        if self.write_failed.load(Ordering::Relaxed) {
            self.write_failed.store(false, Ordering::Relaxed);
        }
        if !cached {
            mtime.set = None;
        }
    }

    /// Brings the wrapped key to the newest version of the master key `to`, or of its own.
    ///
    /// # Errors
    /// [`FsError`]: the header is then the old one.
    pub fn rewrap(&self, to: Option<MasterKeyId>) -> Result<Rewrapped, FsError> {
        // Nobody sets the modification time, or learns it, while the write moves it.
        let _mtime = self.mtime.lock();
        if !self.backing().is_writable() {
            match in_some_file(self.sealed.try_rewrap(to))? {
                Rewrapped::Done => {}
                nothing_to_do => return Ok(nothing_to_do),
            }
            self.backing().make_writable(reopen_writable(self.backing())?);
        }
        in_some_file(self.sealed.rewrap(to))
    }

    /// Brings the header on disk up to date, and the modification time back to what was set.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn settle(&self) -> Result<(), FileError> {
        let mut mtime = self.mtime.lock();
        if let (Some(time), true) = (mtime.set, mtime.passed) {
            let change = Change { mtime: Some(Time::At(time)), ..Change::default() };
            rustix::fs::futimens(self.sealed.backing(), &timestamps(&change))?;
        }
        mtime.passed = false;
        drop(mtime);
        self.sealed.commit()?;
        self.complained.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// The error of a file whose path the caller knows.
///
/// # Errors
/// The same, without a path.
pub fn in_some_file<T>(result: Result<T, FileError>) -> Result<T, FsError> {
    result.map_err(|error| FsError::File { path: PathBuf::new(), error })
}

/// A writable descriptor of a file that is open for reading.
///
/// # Errors
/// What the backing filesystem says.
pub fn reopen_writable(file: &RealFile) -> Result<OwnedFd, FsError> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let open = || rustix::fs::open(&*path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
    match open() {
        Err(Errno::ACCESS) => {
            let mode = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
            rustix::fs::fchmod(file, mode | Mode::RUSR | Mode::WUSR)?;
            let opened = open();
            rustix::fs::fchmod(file, mode)?;
            Ok(opened?)
        }
        opened => Ok(opened?),
    }
}
