//! Written content that did not reach the vault, and the reports of that to its writers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Handle, Inode, Subject};
use crate::store::FileError;

impl Fs {
    /// From now on a truncate by the thread `thread` of this process, to any length, cuts a file to
    /// what was written of it. By it the kernel drops what it keeps of the file behind that.
    pub fn cuts_what_was_lost(&self, thread: u32) {
        self.truncating_thread.store(thread, Ordering::Relaxed);
    }

    /// Whether a request is one of [`Fs::cuts_what_was_lost`].
    pub fn is_cut_of_lost(&self, subject: &Subject) -> bool {
        subject.pid != 0 && subject.pid == self.truncating_thread.load(Ordering::Relaxed)
    }

    /// Whether an open file is longer than what was written of it, or than it would be with a write
    /// that failed and was to end at `end`.
    pub fn is_too_long(&self, inode: Inode, end: u64) -> bool {
        let too_long = |file: Arc<OpenFile>| file.len() < end || file.written_len() < file.len();
        self.open.find(inode).is_some_and(too_long)
    }

    /// How long an open file is without what could not be written; `None` where it is not open.
    pub fn written_len(&self, inode: Inode) -> Option<u64> {
        self.open.find(inode).map(|file| file.written_len())
    }

    /// A write-back failed, some time after the program's write: the next write through each
    /// descriptor reports it, and the log has a line.
    pub(in crate::fs) fn note_lost_write(&self, file: &OpenFile, error: &FileError) {
        file.failed_writes.note(errno_of(error), self.handles.newest());
        file.log_write_failure(error);
    }

    /// Reports once, to each descriptor that is open for writing, that a write-back failed.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the number of that failure.
    pub fn tell_lost_write(&self, inode: Inode, handle: Handle) -> Result<(), FsError> {
        let failed = handle.writes().then(|| self.open.find(inode)).flatten();
        match failed.and_then(|file| file.failed_writes.report_to(handle)) {
            Some(errno) => Err(errno.into()),
            None => Ok(()),
        }
    }

    /// The newest write-back of an open file that failed.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the number of that failure.
    pub fn refuse_lost(&self, inode: Inode) -> Result<(), FsError> {
        let failed = self.open.find(inode).and_then(|file| file.failed_writes.newest());
        failed.map_or(Ok(()), |errno| Err(errno.into()))
    }

    /// [`Fs::refuse_lost`] for what would make the file longer.
    ///
    /// # Errors
    /// As [`Fs::refuse_lost`]; [`FsError::Stale`] where the file is not open.
    pub fn refuse_growth(&self, inode: Inode, end: u64) -> Result<(), FsError> {
        if end > self.opened(inode)?.len() { self.refuse_lost(inode) } else { Ok(()) }
    }

    /// Whether a write-back of an open file failed, so that each descriptor must be checked before
    /// it writes.
    pub fn has_lost_writes(&self, inode: Inode) -> bool {
        self.open.find(inode).is_some_and(|file| file.failed_writes.any())
    }

    /// Notes that a sync of a file failed: the mount then ends uncleanly, unless the file has no
    /// name or loses its last one.
    pub(in crate::fs) fn note_not_durable(&self, inode: Inode, file: &OpenFile) {
        let mut not_durable = self.not_durable.lock();
        // Under the lock: an unlink at the same time either shows here, or removes it later.
        if !file.is_nameless() {
            not_durable.insert(inode);
        }
    }
}

/// The number under which a failure is reported to descriptors later.
pub fn errno_of(error: &FileError) -> Errno {
    match error {
        FileError::Io(error) => error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
        FileError::Integrity(_) | FileError::Key(_) => Errno::IO,
        FileError::TooLong => Errno::FBIG,
    }
}
