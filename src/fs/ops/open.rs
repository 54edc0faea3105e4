//! Opening and closing files.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::SystemTime;

use crate::fs::access::authorize::FileOperation;
use crate::fs::descriptors;
use crate::fs::ops::change::Change;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Handle, Inode, OpenMode, Subject};

impl Fs {
    /// Opens a file for one more user, and empties it for O_TRUNC; [`Fs::release`] ends that.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::File`] for a size that no sealed file has;
    /// [`FsError::Backing`] with the error of openat(2); [`FsError::Trail`] where the use can't be
    /// recorded.
    pub fn open(
        &self,
        inode: Inode,
        wanted: OpenMode,
        subject: &Subject,
    ) -> Result<Handle, FsError> {
        let file = self.acquire(inode, wanted.changes())?;
        if wanted.write {
            file.reported_blocks().expect_writes();
        }
        let opened = self.authorize(FileOperation::Open, &file, wanted, subject).and_then(|()| {
            if !wanted.empty {
                return Ok(());
            }
            let ctime = Some(SystemTime::now());
            let change = Change { size: Some(0), ctime, ..Change::default() };
            self.cut(inode, &file, &change, subject)?;
            file.change(&change, || Ok(()))
        });
        drop(file);
        match opened {
            Ok(()) => Ok(self.handles.open(inode, wanted, subject)),
            Err(error) => {
                // The caller learns of the first error.
                let _ = self.open.release(inode);
                Err(error)
            }
        }
    }

    /// Ends one use of an open file.
    ///
    /// # Errors
    /// [`FsError::File`] when the header could not be brought up to date.
    pub fn release(&self, inode: Inode) -> Result<(), FsError> {
        self.in_file(inode, self.open.release(inode))
    }

    /// The file's one shared [`OpenFile`], for one more user.
    pub(in crate::fs) fn acquire(
        &self,
        inode: Inode,
        for_writing: bool,
    ) -> Result<Arc<OpenFile>, FsError> {
        let acquire = || {
            if let Some(file) = self.open.acquire_open(inode, for_writing)? {
                return Ok(file);
            }
            let (at_path, _held) = self.locked_path(inode)?;
            let stat = |fd: BorrowedFd<'_>| self.resolver.stat_of(inode, &at_path, fd);
            self.open.acquire(inode, &at_path, for_writing, stat)
        };
        let acquired = match acquire() {
            Err(FsError::Backing(errno)) if descriptors::is_exhausted(errno) => {
                self.free_descriptors();
                acquire()
            }
            acquired => acquired,
        };
        acquired.map_err(|error| match error {
            FsError::File { error, .. } => {
                FsError::File { path: self.resolver.path(&self.nodes, inode), error }
            }
            other => other,
        })
    }

    pub(in crate::fs) fn opened(&self, inode: Inode) -> Result<Arc<OpenFile>, FsError> {
        self.open.find(inode).ok_or(FsError::Stale)
    }

    /// Keeps an open file open until one more [`Fs::release`], and with it the record of its failed
    /// writes. Returns whether it was open.
    pub fn keep_open(&self, inode: Inode) -> bool {
        self.open.hold(inode)
    }
}
