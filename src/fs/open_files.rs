//! The sealed files that somebody has open, one for each inode however often it is opened.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::descriptors::for_program;
use super::open_file::{OpenFile, in_some_file, reopen_writable};
use super::place::Place;
use super::{FsError, Inode};
use crate::store::{Access, Context, FileError, RealFile, SealedFile};

/// The open files, by inode. Each is held open by as many users as acquired it.
#[derive(Debug)]
pub struct OpenFiles {
    files: DashMap<Inode, Shared>,
    context: Arc<Context>,
    access: Access,
}

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
    pub fn new(context: Arc<Context>, access: Access) -> Self {
        Self { files: DashMap::new(), context, access }
    }

    /// The file, if somebody has it open.
    pub fn find(&self, inode: Inode) -> Option<Arc<OpenFile>> {
        self.files.get(&inode).map(|shared| Arc::clone(&shared.file))
    }

    /// Opens the file for one more user, from `place` if it is not open yet.
    ///
    /// # Errors
    /// [`FsError::Stale`] when something else lies there; what the backing filesystem says.
    pub fn acquire(
        &self,
        inode: Inode,
        place: impl FnOnce() -> Result<Place, FsError>,
        for_writing: bool,
        is_inode: impl FnOnce(&rustix::fs::Stat) -> Result<bool, FsError>,
    ) -> Result<Arc<OpenFile>, FsError> {
        match self.files.entry(inode) {
            Entry::Occupied(shared) => {
                let shared = shared.get();
                if for_writing && !shared.file.backing().is_writable() {
                    let writable = for_program(reopen_writable(shared.file.backing())?)?;
                    shared.file.backing().make_writable(writable);
                }
                shared.users.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::clone(&shared.file))
            }
            Entry::Vacant(vacant) => {
                let (fd, writable) = self.open_backing(&place()?, self.access, for_writing)?;
                let fd = for_program(fd)?;
                let stat = rustix::fs::fstat(&fd)?;
                if !is_inode(&stat)? {
                    return Err(FsError::Stale);
                }
                let file = self.seal(fd, writable, stat.st_size as u64, stat.st_blocks as u64)?;
                vacant.insert(Shared { file: Arc::clone(&file), users: AtomicU64::new(1) });
                Ok(file)
            }
        }
    }

    /// Opens for one more user the file that is open as `fd`, from [`OpenFiles::open_found`].
    ///
    /// # Errors
    /// [`FsError::File`] for a size that no sealed file has; what the backing filesystem says.
    pub fn acquire_found(
        &self,
        inode: Inode,
        fd: OwnedFd,
        writable: bool,
    ) -> Result<Arc<OpenFile>, FsError> {
        match self.files.entry(inode) {
            Entry::Occupied(shared) => {
                shared.get().users.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::clone(&shared.get().file))
            }
            Entry::Vacant(vacant) => {
                // It may have grown since it was found.
                let stat = rustix::fs::fstat(&fd)?;
                let file = self.seal(fd, writable, stat.st_size as u64, stat.st_blocks as u64)?;
                vacant.insert(Shared { file: Arc::clone(&file), users: AtomicU64::new(1) });
                Ok(file)
            }
        }
    }

    /// Opens the regular file at `place` without keeping anybody waiting; whether it can be
    /// written, too, and what stat says of it.
    ///
    /// # Errors
    /// [`FsError::Stale`] when something else lies there; what the backing filesystem says.
    pub fn open_found(
        &self,
        place: &Place,
        access: Access,
    ) -> Result<(OwnedFd, bool, Stat), FsError> {
        let (fd, writable) = self.open_backing(place, access, false)?;
        let stat = rustix::fs::fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Ok((fd, writable, stat)),
            _ => Err(FsError::Stale),
        }
    }

    /// Does `work` while the file is not open and nobody can open it. `Err` is the file that is.
    pub fn while_closed<T>(
        &self,
        inode: Inode,
        work: impl FnOnce() -> T,
    ) -> Result<T, Arc<OpenFile>> {
        match self.files.entry(inode) {
            Entry::Occupied(shared) => Err(Arc::clone(&shared.get().file)),
            Entry::Vacant(_) => Ok(work()),
        }
    }

    /// Takes over a new, empty file that is open as `fd`, for one user.
    ///
    /// # Errors
    /// None that a new file gives: those of [`SealedFile::open`].
    pub fn adopt(&self, inode: Inode, fd: OwnedFd) -> Result<Arc<OpenFile>, FsError> {
        let file = self.seal(fd, true, 0, 0)?;
        let shared = Shared { file: Arc::clone(&file), users: AtomicU64::new(1) };
        self.files.insert(inode, shared);
        Ok(file)
    }

    /// One user less; the last one leaves the header on disk up to date.
    ///
    /// # Errors
    /// [`FileError`]: the file is closed all the same.
    pub fn release(&self, inode: Inode) -> Result<(), FileError> {
        let mut committed = Ok(());
        // The commit happens under the entry's lock: nobody reads the header before it is done.
        self.files.remove_if(&inode, |_, shared| {
            let last = shared.users.fetch_sub(1, Ordering::Relaxed) == 1;
            if last {
                committed = shared.file.settle();
            }
            last
        });
        committed
    }

    /// Commits the headers of all files that are still open; returns the first failure.
    ///
    /// # Errors
    /// [`FileError`]: the others were committed all the same.
    pub fn commit_all(&self) -> Result<(), FileError> {
        let results: Vec<_> = self.files.iter().map(|shared| shared.file.settle()).collect();
        results.into_iter().collect()
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

    fn seal(
        &self,
        fd: OwnedFd,
        writable: bool,
        size: u64,
        blocks: u64,
    ) -> Result<Arc<OpenFile>, FsError> {
        let file = RealFile::new(fd, writable);
        let sealed = in_some_file(SealedFile::open(file, size, Arc::clone(&self.context)))?;
        Ok(Arc::new(OpenFile::new(sealed, blocks)))
    }

    /// Opens for both reading and writing where that is allowed, so that a block can be read
    /// back before part of it is written.
    fn open_backing(
        &self,
        place: &Place,
        access: Access,
        for_writing: bool,
    ) -> Result<(OwnedFd, bool), FsError> {
        let flags = OFlags::NONBLOCK;
        let open = |access| place.open(access | flags);
        if access == Access::ReadOnly || self.access == Access::ReadOnly {
            return match open(OFlags::RDONLY) {
                Err(Errno::ACCESS) if self.access == Access::ReadWrite => {
                    open_despite_mode(place, OFlags::RDONLY | flags)
                }
                opened => Ok((opened?, false)),
            };
        }
        match open(OFlags::RDWR) {
            Ok(fd) => Ok((fd, true)),
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY) if !for_writing => {
                match open(OFlags::RDONLY) {
                    Ok(fd) => Ok((fd, false)),
                    Err(Errno::ACCESS) => open_despite_mode(place, OFlags::RDONLY | flags),
                    Err(errno) => Err(errno.into()),
                }
            }
            Err(Errno::ACCESS) => open_despite_mode(place, OFlags::RDWR | flags),
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Opens a file of the daemon's own user whose mode does not let its owner read or write it,
/// which the kernel has checked and the mount needs: a write-only file must be read back.
fn open_despite_mode(place: &Place, flags: OFlags) -> Result<(OwnedFd, bool), FsError> {
    let mode = Mode::from_raw_mode(place.stat()?.st_mode);
    place.chmod(mode | Mode::RUSR | Mode::WUSR).map_err(|_| Errno::ACCESS)?;
    let opened = place.open(flags);
    place.chmod(mode)?;
    Ok((opened?, flags.contains(OFlags::RDWR)))
}

/// The length of a file that nobody has open and whose size alone does not tell it.
///
/// # Errors
/// [`FileError`]; what the backing filesystem says.
pub fn length_in_last_block(place: &Place, size: u64) -> Result<u64, FileError> {
    let fd = place.open(OFlags::RDONLY | OFlags::NONBLOCK).map_err(io::Error::from)?;
    crate::store::plain_len(&RealFile::new(fd, false), size)
}
