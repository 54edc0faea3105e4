//! Content: opening, reading, writing, syncing, space.

use std::io::ErrorKind;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;

use super::open_files::open_file::OpenFile;
use crate::fs::{Caller, Change, Fs, FsError, Handle, Inode, Wanted};
use crate::store::FileError;
use crate::sys;

/// Where a write comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The kernel's writeback cache, which keeps the modification time.
    Cache,
    /// A shared mapping where there is no writeback cache: the kernel keeps no time of it.
    Mapping,
    /// A program.
    Program,
    /// A program that waits until it is durable.
    ProgramSync,
}

impl Origin {
    /// Whether the content may be that of any writer, whose handle ever it comes by.
    pub(in crate::fs) fn is_shared(self) -> bool {
        matches!(self, Self::Cache | Self::Mapping)
    }
}

/// What follows from a write that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The space that the kernel was last told of is far less than what the file has: the kernel
    /// must ask for the attributes again.
    pub blocks_outgrown: bool,
}

/// How [`Fs::allocate`] treats a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve it, and make the file long enough.
    Extend,
    /// Reserve it; the length stays.
    KeepSize,
    /// Make it read as zeros and give its space back; the length stays.
    PunchHole,
    /// Make it read as zeros, reserve it, and make the file long enough.
    Zero,
    /// Make it read as zeros and reserve it; the length stays.
    ZeroKeepSize,
}

/// What is told how far [`Fs::copy`] has come.
pub trait CopyProgress {
    /// Some bytes were read. Returns whether they are to be written.
    fn begin_write(&self) -> bool;
    /// So many bytes more were written. Returns whether to go on.
    fn wrote(&self, len: u64) -> bool;
}

/// Bytes that [`Fs::copy`] moves at a time: at first, and after a chunk that was slow, the least,
/// since a caller that was killed waits while one is written; twice as many after each quick one.
const COPY_CHUNK: RangeInclusive<u64> = 64 * 1024..=1024 * 1024;
/// A chunk is quick that takes less.
const QUICK: Duration = Duration::from_millis(20);

impl Fs {
    /// Opens a file for one more user, and empties it if that is wanted; [`Fs::release`] ends that.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::File`] for a size that no sealed file has; what the backing
    /// filesystem says.
    pub fn open(&self, inode: Inode, wanted: Wanted, caller: &Caller) -> Result<Handle, FsError> {
        let file = self.acquire(inode, wanted.changes())?;
        if wanted.write {
            file.told_blocks().expect_writes();
        }
        let opened = self
            .may_open(inode, &file, wanted, caller)
            .and_then(|()| self.require_key(inode, &file, wanted, caller));
        let opened = self.record_open("open", (inode, &file), wanted, caller, opened);
        let emptied = opened.and_then(|()| match wanted.empty {
            true => {
                let ctime = Some(SystemTime::now());
                let change = Change { size: Some(0), ctime, ..Change::default() };
                self.cut(inode, &file, &change, caller)?;
                file.change(&change, || Ok(()))
            }
            false => Ok(()),
        });
        drop(file);
        match emptied {
            Ok(()) => Ok(self.handles.open(self, inode, wanted, caller)),
            Err(error) => {
                // What is told is why it can't be used.
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

    /// Hands up to `len` bytes from `offset` of an open file to `take`.
    ///
    /// # Errors
    /// [`FsError::File`]; [`FsError::Stale`] where the file is not open.
    pub fn read<T>(
        &self,
        inode: Inode,
        offset: u64,
        len: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, FsError> {
        let file = self.opened(inode)?;
        file.keep_access_time();
        self.in_file(inode, file.read_with(offset, len, take))
    }

    /// [`Fs::read`] for a program, which moves the time of access by the rule of the mount.
    ///
    /// # Errors
    /// As [`Fs::read`].
    pub fn read_for_program<T>(
        &self,
        inode: Inode,
        offset: u64,
        len: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, FsError> {
        let file = self.opened(inode)?;
        // A vault that can't be written is read all the same.
        if let Err(errno) = file.note_access() {
            log::debug!("inode {}: its time of access: {errno}", inode.0);
        }
        self.in_file(inode, file.read_with(offset, len, take))
    }

    /// Writes all of `data` at `offset` of an open file, with root's privileges.
    ///
    /// # Errors
    /// [`FsError::File`]; [`FsError::Stale`] where the file is not open.
    pub fn write(
        &self,
        inode: Inode,
        offset: u64,
        data: &[u8],
        origin: Origin,
    ) -> Result<Written, FsError> {
        self.write_as(Handle::ROOT, inode, offset, data, origin)
    }

    /// [`Fs::write`] with the privileges of whoever opened `handle`: a user other than root is bound
    /// by quotas and by what the backing filesystem keeps for root.
    ///
    /// # Errors
    /// As [`Fs::write`]; ENOSPC and EDQUOT where the user may write no more; as [`Fs::fsync`] for
    /// [`Origin::ProgramSync`].
    pub fn write_as(
        &self,
        handle: Handle,
        inode: Inode,
        offset: u64,
        data: &[u8],
        origin: Origin,
    ) -> Result<Written, FsError> {
        let written = self.write_unsynced(handle.by_root(), inode, offset, data, origin)?;
        if origin == Origin::ProgramSync {
            self.fsync(inode, handle, false)?;
        }
        Ok(written)
    }

    fn write_unsynced(
        &self,
        by_root: bool,
        inode: Inode,
        offset: u64,
        data: &[u8],
        origin: Origin,
    ) -> Result<Written, FsError> {
        let file = self.opened(inode)?;
        let cached = origin == Origin::Cache;
        file.begin_change(origin)?;
        self.choose_key(inode, &file)?;
        let room = || self.require_room(&file, (offset, data.len() as u64), by_root);
        let room = self.with_room(by_root, room);
        let written = room.and_then(|()| match cached {
            // Tried again before the failure is noted, by which other bytes may be cut away.
            true => file.write_back(offset, data, |write| self.with_room(by_root, write)),
            false => self.with_room(by_root, || file.write(offset, data)),
        });
        if cached && let Err(error) = &written {
            self.note_lost_write(&file, error);
        }
        self.in_file(inode, written)?;
        file.end_change(origin);
        // Without its writeback cache the kernel asks for the space after each write by itself.
        let blocks_outgrown = origin == Origin::Cache && file.outgrows_told_blocks(data.len());
        Ok(Written { blocks_outgrown })
    }

    /// What a program wrote a while ago can't be written to the vault: whoever has the file open for
    /// writing learns of it with their next write, and the log has a line.
    fn note_lost_write(&self, file: &OpenFile, error: &FileError) {
        file.failed_writes.note(errno_of(error), self.handles.newest());
        file.complain_of_write(error);
    }

    /// Tells whoever has a file open for writing, once, that something could not be written out of
    /// the kernel's cache.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the number of that failure.
    pub fn tell_lost_write(&self, inode: Inode, handle: Handle) -> Result<(), FsError> {
        let failed = handle.writes().then(|| self.open.find(inode)).flatten();
        match failed.and_then(|file| file.failed_writes.tell(handle)) {
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

    /// Whether something of an open file was lost, so that each descriptor is to ask before it writes.
    pub fn has_lost_writes(&self, inode: Inode) -> bool {
        self.open.find(inode).is_some_and(|file| file.failed_writes.any())
    }

    /// Makes an open file's content durable, and with `metadata` its times and modes too.
    ///
    /// # Errors
    /// [`FsError::File`], also where another descriptor's sync failed and `handle` was not told yet; [`FsError::Stale`] where the file is not open.
    pub fn fsync(&self, inode: Inode, handle: Handle, metadata: bool) -> Result<(), FsError> {
        let file = self.opened(inode)?;
        let synced = self.sync(inode, &file, metadata);
        match file.failed_syncs.tell(handle) {
            // This descriptor now knows, by the failure of its own or by that of another.
            Some(errno) => synced.and(Err(errno.into())),
            None => synced,
        }
    }

    fn sync(&self, inode: Inode, file: &OpenFile, metadata: bool) -> Result<(), FsError> {
        let told = |error: &FileError| (errno_of(error), self.handles.newest());
        let synced = file.failed_syncs.note_of(|| file.sync(metadata), told);
        if synced.is_err() {
            self.note_unsound(inode, file);
        }
        self.in_file(inode, synced)
    }

    /// Reserves, zeroes or gives back `len` bytes from `offset` of an open file.
    ///
    /// # Errors
    /// [`FsError::File`]; [`FsError::Stale`] where the file is not open.
    pub fn allocate(
        &self,
        inode: Inode,
        offset: u64,
        len: u64,
        how: Allocate,
        caller: &Caller,
    ) -> Result<(), FsError> {
        let file = self.opened(inode)?;
        self.choose_key(inode, &file)?;
        let by_root = caller.is_root();
        let reserve = |extend| {
            self.with_room(by_root, || {
                self.require_room(&file, (offset, len), by_root)?;
                file.allocate(offset, len, extend)
            })
        };
        file.begin_change(Origin::Program)?;
        let allocated = match how {
            Allocate::Extend => reserve(true),
            Allocate::KeepSize => reserve(false),
            Allocate::PunchHole => file.punch(offset, len),
            // Reserved first: what has no room is not to lose its content.
            Allocate::Zero | Allocate::ZeroKeepSize => reserve(false)
                .and_then(|()| file.punch(offset, len))
                .and_then(|()| reserve(how == Allocate::Zero)),
        };
        self.in_file(inode, allocated)?;
        file.end_change(Origin::Program);
        self.content_changed(inode, caller)
    }

    /// The first content from `offset` on.
    ///
    /// # Errors
    /// [`FsError::PastEnd`] where there is none; [`FsError::File`]; [`FsError::Stale`].
    pub fn seek_data(&self, inode: Inode, offset: u64) -> Result<u64, FsError> {
        self.in_file(inode, self.opened(inode)?.next_data(offset))?.ok_or(FsError::PastEnd)
    }

    /// The first hole from `offset` on; the end of the file counts as one.
    ///
    /// # Errors
    /// [`FsError::PastEnd`] where `offset` is not below the end; [`FsError::File`];
    /// [`FsError::Stale`].
    pub fn seek_hole(&self, inode: Inode, offset: u64) -> Result<u64, FsError> {
        self.in_file(inode, self.opened(inode)?.next_hole(offset))?.ok_or(FsError::PastEnd)
    }

    /// Copies up to `len` bytes between two open files, from one key to the other, as long as `progress`
    /// lets it; returns how many, fewer where the source ends or something fails.
    ///
    /// # Errors
    /// As reading and writing, where nothing was copied.
    pub fn copy(
        &self,
        (from, from_offset): (Inode, u64),
        (to, to_offset): (Inode, u64),
        len: u64,
        caller: &Caller,
        progress: &impl CopyProgress,
    ) -> Result<u64, FsError> {
        let (source, target) = (self.opened(from)?, self.opened(to)?);
        for (inode, file, wanted) in [(from, &source, Wanted::READ), (to, &target, Wanted::WRITE)] {
            let may = match wanted.write {
                false => self.may_open(inode, file, wanted, caller),
                true => self.may_fill(inode, file, caller),
            };
            let may = may.and_then(|()| self.require_key(inode, file, wanted, caller));
            // One that is allowed is of what was recorded when it was opened.
            if may.is_err() {
                self.record_open("copy_file_range", (inode, file), wanted, caller, may)?;
            }
        }
        if let Err(errno) = source.note_access() {
            log::debug!("inode {}: its time of access: {errno}", from.0);
        }
        let mut copied = 0;
        let mut failed = Ok(());
        let mut most = *COPY_CHUNK.start();
        while copied < len {
            let begun = Instant::now();
            let want = (len - copied).min(most) as usize;
            let chunk = source.read_with(from_offset + copied, want, <[u8]>::to_vec);
            let chunk = self.in_file(from, chunk);
            let done = chunk.and_then(|chunk| {
                if chunk.is_empty() || !progress.begin_write() {
                    return Ok(0);
                }
                if copied == 0 {
                    self.content_changed(to, caller)?;
                }
                let at = to_offset + copied;
                self.write_unsynced(caller.is_root(), to, at, &chunk, Origin::Program)?;
                Ok(chunk.len() as u64)
            });
            match done {
                Ok(0) => break,
                Ok(done) => {
                    copied += done;
                    if !progress.wrote(done) {
                        break;
                    }
                }
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
            most = match begun.elapsed() < QUICK {
                true => (most * 2).min(*COPY_CHUNK.end()),
                false => *COPY_CHUNK.start(),
            };
        }
        if copied > 0 { Ok(copied) } else { failed.map(|()| 0) }
    }

    /// At a change of the content of which the kernel does not say who made it.
    fn content_changed(&self, inode: Inode, caller: &Caller) -> Result<(), FsError> {
        if caller.is_root() { Ok(()) } else { self.drop_privilege_bits(inode, caller) }
    }

    /// Does `work`. What finds no room waits for that of files which were just removed, and is done
    /// again; so is what `by_root` ended at a quota, beyond it: a quota does not bind root.
    fn with_room<T>(
        &self,
        by_root: bool,
        mut work: impl FnMut() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let mut done = work();
        if lacks_room(&done, &[ErrorKind::StorageFull, ErrorKind::QuotaExceeded])
            && self.departing.wait()
        {
            done = work();
        }
        match by_root && lacks_room(&done, &[ErrorKind::QuotaExceeded]) {
            true => sys::beyond_limits(work),
            false => done,
        }
    }

    fn opened(&self, inode: Inode) -> Result<Arc<OpenFile>, FsError> {
        self.open.find(inode).ok_or(FsError::Stale)
    }
}

fn lacks_room<T>(done: &Result<T, FileError>, of: &[ErrorKind]) -> bool {
    matches!(done, Err(FileError::Io(error)) if of.contains(&error.kind()))
}

/// The number under which a failure is told to descriptors later.
fn errno_of(error: &FileError) -> Errno {
    match error {
        FileError::Io(error) => error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error),
        FileError::Integrity(_) | FileError::Key(_) => Errno::IO,
        FileError::TooLong => Errno::FBIG,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use rustix::fs::{Mode, OFlags};

    use super::*;
    use crate::fs::tests::new_fs;

    const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };

    fn create(fs: &Fs, name: &str) -> (Inode, Handle) {
        let how = (Wanted::BOTH, true);
        let (made, handle) = fs.create(Inode::ROOT, OsStr::new(name), 0o600, how, &CALLER).unwrap();
        (made.attr.inode, handle)
    }

    #[test]
    fn a_synced_write_tells_its_descriptor_of_a_failed_sync() {
        let (_vault, fs) = new_fs();
        let (inode, handle) = create(&fs, "file");
        let write = || fs.write_as(handle, inode, 0, b"x", Origin::ProgramSync);
        write().unwrap();
        fs.opened(inode).unwrap().failed_syncs.note(Errno::IO, fs.handles.newest());
        assert!(matches!(write(), Err(FsError::Backing(Errno::IO))));
        write().expect("it is told once");
        fs.fsync(inode, handle, true).expect("it was told");
    }

    #[test]
    fn a_failed_sync_of_a_file_without_a_name_leaves_the_end_clean() {
        let (vault, fs) = new_fs();
        let path = vault.path().join("file");
        std::fs::write(&path, b"").unwrap();
        // fsync(2) fails with EBADF for O_PATH.
        let fd = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let stat = rustix::fs::fstat(&fd).unwrap();
        let inode = fs.places.inode(&stat).unwrap();
        let file = fs.open.adopt(inode, fd, &stat).unwrap();
        fs.sync(inode, &file, true).unwrap_err();
        assert!(fs.unsound.lock().contains(&inode));
        fs.unlink(Inode::ROOT, OsStr::new("file")).unwrap();
        assert!(fs.unsound.lock().is_empty());
        fs.sync(inode, &file, true).unwrap_err();
        assert!(fs.unsound.lock().is_empty());
        fs.close().unwrap();
    }
}
