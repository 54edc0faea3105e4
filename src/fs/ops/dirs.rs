//! Listing directories.
//!
//! The kernel sends no OPENDIR, so a listing continues by its offset alone: the backing
//! filesystem's own cookie, which stays valid while names are made and removed. The open stream is
//! kept for a second, so that a long listing does not seek at every call.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Instant;

use rustix::fs::{AtFlags, FileType, OFlags, RawDir, SeekFrom};

use super::dir_streams::{DirEntry, DirStream};
use crate::fs::namespace::lookup::Entry;
use crate::fs::{Fs, FsError, Inode};
use crate::store::METADATA_DIR;
use crate::sys;

/// A name of a listing with what stat shows of it; `None` for `.` and `..`, which are not looked
/// up, so not remembered either.
#[derive(Debug)]
pub struct DirEntryPlus<'a> {
    /// The name.
    pub listed: &'a DirEntry,
    /// What it names.
    pub entry: Option<Entry>,
}

impl Fs {
    /// Lists `inode` from `offset` (0: the start, else [`DirEntry::next`] of the last one) until
    /// `take` says that it took no more.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of openat(2) or getdents64(2).
    pub fn readdir(
        &self,
        inode: Inode,
        offset: u64,
        mut take: impl FnMut(&DirEntry) -> bool,
    ) -> Result<(), FsError> {
        let mut stream = match self.streams.take(inode, offset) {
            Some(stream) => stream,
            None => self.open_stream(inode, offset)?,
        };
        loop {
            let Some(entry) = stream.ahead.front() else {
                if self.read_ahead(&mut stream)? { continue } else { return Ok(()) }
            };
            if !take(entry) {
                self.streams.leave(stream);
                return Ok(());
            }
            stream.next = entry.next;
            stream.ahead.pop_front();
        }
    }

    /// [`Fs::readdir`] that looks every name up. A name that `take` took is remembered.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of openat(2) or getdents64(2).
    pub fn readdir_plus(
        &self,
        inode: Inode,
        offset: u64,
        mut take: impl FnMut(&DirEntryPlus<'_>) -> bool,
    ) -> Result<(), FsError> {
        self.readdir(inode, offset, |listed| {
            if listed.name == "." || listed.name == ".." {
                return take(&DirEntryPlus { listed, entry: None });
            }
            let Ok(at_path) = self.at_path(inode, &listed.name) else { return true };
            let _held = self.lock_name(inode, &at_path);
            // A name that went away meanwhile is not listed.
            let Ok((stat, backing)) = self.stat(&at_path) else { return true };
            let Ok(attr) = self.attr(&at_path, &stat) else { return true };
            let generation = self.nodes.generation(&attr, backing);
            let taken = take(&DirEntryPlus { listed, entry: Some(Entry { attr, generation }) });
            if taken {
                self.nodes.remember(&attr, backing, self.link_to(inode, &at_path));
            }
            taken
        })
    }

    /// Makes a directory's names durable.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of fsync(2).
    pub fn fsync_dir(&self, inode: Inode) -> Result<(), FsError> {
        Ok(rustix::fs::fsync(self.open_to_read(inode)?)?)
    }

    fn open_stream(&self, inode: Inode, offset: u64) -> Result<DirStream, FsError> {
        let fd = self.open_to_read(inode)?;
        if offset != 0 {
            rustix::fs::seek(&fd, SeekFrom::Start(offset))?;
        }
        let ahead = VecDeque::new();
        Ok(DirStream { inode, fd, ahead, next: offset, left_at: Instant::now() })
    }

    fn open_to_read(&self, inode: Inode) -> Result<OwnedFd, FsError> {
        let dir = self.dir(inode)?;
        Ok(sys::open_directory_at(&dir, c".", OFlags::RDONLY)?)
    }

    /// Reads some more names; `false` at the end.
    fn read_ahead(&self, stream: &mut DirStream) -> Result<bool, FsError> {
        let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
        let mut raw = RawDir::new(&stream.fd, &mut buffer);
        let mut any = false;
        while let Some(entry) = raw.next() {
            let entry = entry?;
            any = true;
            let kind = match entry.file_type() {
                FileType::Unknown => kind_of(&stream.fd, entry.file_name()),
                kind => kind,
            };
            let stored = OsStr::from_bytes(entry.file_name().to_bytes());
            if stream.inode != Inode::ROOT || stored != METADATA_DIR {
                stream.ahead.push_back(DirEntry {
                    inode: self.resolver.number(entry.ino()),
                    kind,
                    name: self.resolver.names().open(stored).into_owned(),
                    next: entry.next_entry_cookie(),
                });
            }
            if raw.is_buffer_empty() {
                break;
            }
        }
        Ok(any)
    }
}

/// What a name is, where the backing filesystem does not say so in its listing.
fn kind_of(dir: &OwnedFd, name: &CStr) -> FileType {
    match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => FileType::from_raw_mode(stat.st_mode),
        Err(_) => FileType::Unknown,
    }
}
