//! Listing directories.
//!
//! The kernel opens no directories here, so a listing goes on by its offset alone: the backing
//! filesystem's own cookie, which stays good while names come and go. A stream that was left at
//! an offset is kept for a moment, so that a long listing does not seek at every call.

use std::collections::VecDeque;
use std::ffi::{CStr, OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, SeekFrom};

use super::descriptors::is_spare;
use super::lookup::Entry;
use super::{Fs, FsError, Inode};
use crate::store::METADATA_DIR;

/// One name of a listing.
#[derive(Debug, Clone)]
pub struct DirEntry {
    /// What it names.
    pub inode: Inode,
    /// What that is.
    pub kind: FileType,
    /// The name.
    pub name: OsString,
    /// Where the listing goes on after it.
    pub next: u64,
}

/// A name of a listing with what stat shows of it; `None` for `.` and `..`, which are not looked
/// up, so not remembered either.
#[derive(Debug)]
pub struct DirEntryPlus<'a> {
    /// The name.
    pub listed: &'a DirEntry,
    /// What it names.
    pub entry: Option<Entry>,
}

/// Streams that wait to be gone on with.
#[derive(Debug, Default)]
pub struct DirStreams(Mutex<VecDeque<DirStream>>);

#[derive(Debug)]
struct DirStream {
    inode: Inode,
    fd: OwnedFd,
    /// Read from the directory and not yet listed.
    ahead: VecDeque<DirEntry>,
    next: u64,
    left_at: Instant,
}

impl DirStreams {
    /// Streams kept at most.
    const MOST: usize = 32;
    /// What was read ahead is listed only this long: then names may have come and gone.
    const FRESH: Duration = Duration::from_secs(1);

    fn take(&self, inode: Inode, offset: u64) -> Option<DirStream> {
        // Closed last, without the lock: that of a directory that was removed may take a disk.
        let mut old = Vec::new();
        let mut streams = self.0.lock();
        while streams.front().is_some_and(|stream| stream.left_at.elapsed() >= Self::FRESH) {
            old.extend(streams.pop_front());
        }
        let at = streams
            .iter()
            .position(|stream| offset != 0 && stream.inode == inode && stream.next == offset)?;
        streams.remove(at)
    }

    fn leave(&self, mut stream: DirStream) {
        if !is_spare(&stream.fd) {
            return;
        }
        let mut old = None;
        let mut streams = self.0.lock();
        if streams.len() == Self::MOST {
            old = streams.pop_front();
        }
        stream.left_at = Instant::now();
        streams.push_back(stream);
        drop(streams);
        drop(old);
    }
}

impl Fs {
    /// Lists `inode` from `offset` (0: the start, else [`DirEntry::next`] of the last one) until
    /// `take` says that it took no more.
    ///
    /// # Errors
    /// What the backing filesystem says.
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
    /// What the backing filesystem says.
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
            let Ok(place) = self.place(inode, &listed.name) else { return true };
            let _held = self.hold(inode, &place);
            // A name that went away meanwhile is not listed.
            let Ok((stat, backing)) = self.stat(&place) else { return true };
            let Ok(attr) = self.attr(&place, &stat) else { return true };
            let generation = self.nodes.generation(&attr, backing);
            let taken = take(&DirEntryPlus { listed, entry: Some(Entry { attr, generation }) });
            if taken {
                self.nodes.remember(&attr, backing, self.link_to(inode, &place));
            }
            taken
        })
    }

    /// Makes a directory's names durable.
    ///
    /// # Errors
    /// What the backing filesystem says.
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
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&dir, c".", flags, Mode::empty())?)
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
                    inode: self.places.number(entry.ino()),
                    kind,
                    name: self.places.names().open(stored).into_owned(),
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
