//! Open listings of directories, kept between two calls of readdir(3).

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::FileType;

use crate::fs::Inode;
use crate::fs::descriptors::is_outside_reserve;

/// One name of a listing.
#[derive(Debug, Clone)]
pub struct DirEntry {
    /// What it names.
    pub inode: Inode,
    /// What that is.
    pub kind: FileType,
    /// The name.
    pub name: OsString,
    /// The offset of the next name.
    pub next: u64,
}

/// Streams that wait for the next call of their listing.
#[derive(Debug, Default)]
pub struct DirStreams(Mutex<VecDeque<DirStream>>);

#[derive(Debug)]
pub struct DirStream {
    pub inode: Inode,
    pub fd: OwnedFd,
    /// Read from the directory and not yet listed.
    pub ahead: VecDeque<DirEntry>,
    pub next: u64,
    pub left_at: Instant,
}

impl DirStreams {
    /// Streams kept at most.
    const MAX_STREAMS: usize = 32;
    /// Names that were read ahead are listed only this long, since names may change meanwhile.
    const MAX_AGE: Duration = Duration::from_secs(1);

    pub fn take(&self, inode: Inode, offset: u64) -> Option<DirStream> {
        // Closed last, without the lock: that of a directory that was removed may take a disk.
        let mut old = Vec::new();
        let mut streams = self.0.lock();
        while streams.front().is_some_and(|stream| stream.left_at.elapsed() >= Self::MAX_AGE) {
            old.extend(streams.pop_front());
        }
        let at = streams
            .iter()
            .position(|stream| offset != 0 && stream.inode == inode && stream.next == offset)?;
        streams.remove(at)
    }

    pub fn leave(&self, mut stream: DirStream) {
        if !is_outside_reserve(&stream.fd) {
            return;
        }
        let mut old = None;
        let mut streams = self.0.lock();
        if streams.len() == Self::MAX_STREAMS {
            old = streams.pop_front();
        }
        stream.left_at = Instant::now();
        streams.push_back(stream);
        drop(streams);
        drop(old);
    }
}
