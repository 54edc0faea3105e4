//! The backing file below a sealed file, behind one small trait, so that an in-memory, a
//! crash-replaying or a fault-injecting one can stand in for the real one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{FallocateFlags, SeekFrom, Stat, Timespec, Timestamps, XattrFlags};
use rustix::io::Errno;

/// A program's capabilities, which any write takes away (capabilities(7)).
const CAPABILITY: &str = "security.capability";
/// Bytes of the longest value that it has (linux/capability.h: vfs_ns_cap_data).
const CAPABILITY_LEN: usize = 24;

/// What a sync makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncScope {
    /// Content and length: fdatasync(2).
    Content,
    /// The times and the mode too: fsync(2).
    All,
}

/// One file of the backing directory. Offsets and lengths are in bytes of that file.
pub trait Backing: Send + Sync {
    /// Reads at `offset` until `buf` is full or the file ends; returns how many bytes.
    ///
    /// # Errors
    /// Those of pread(2).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `buf` at `offset`.
    ///
    /// # Errors
    /// Those of pwrite(2); part of `buf` may have been written.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// [`Backing::write_at`] that leaves the file's modification time, mode and capabilities as
    /// they were.
    ///
    /// # Errors
    /// Those of pwrite(2), fsetxattr(2), futimens(3), fchmod(2); part of `buf` may have been written.
    fn write_preserving_mtime(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// Those of ftruncate(2); the length is what it was.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the file durable, as far as `scope` says.
    ///
    /// # Errors
    /// Those of fsync(2): any change since the last sync may be lost.
    fn sync(&self, scope: SyncScope) -> io::Result<()>;

    /// Gives back a range, which reads as zeros afterwards; the length stays.
    ///
    /// # Errors
    /// Those of fallocate(2).
    fn punch(&self, offset: u64, len: u64) -> io::Result<()>;

    /// Reserves space for a range; content and length stay.
    ///
    /// # Errors
    /// Those of fallocate(2).
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    /// The first offset from `offset` on that holds data; `None` where there is none.
    ///
    /// # Errors
    /// Those of lseek(2), but ENXIO.
    fn next_data(&self, offset: u64) -> io::Result<Option<u64>>;

    /// The first offset from `offset` on that holds none; the file's end counts as one. `None` past
    /// the end.
    ///
    /// # Errors
    /// Those of lseek(2), but ENXIO.
    fn next_hole(&self, offset: u64) -> io::Result<Option<u64>>;
}

/// A file of a real backing directory, open for reading, or for both.
#[derive(Debug)]
pub struct RealFile {
    opened: OwnedFd,
    writable: OnceLock<OwnedFd>,
    opened_writable: bool,
}

impl RealFile {
    /// Takes over `fd`, which is open for reading and, if `writable`, for writing.
    pub fn new(fd: OwnedFd, writable: bool) -> Self {
        Self { opened: fd, writable: OnceLock::new(), opened_writable: writable }
    }

    /// Whether the file can be written through this handle.
    pub fn is_writable(&self) -> bool {
        self.opened_writable || self.writable.get().is_some()
    }

    /// Adds a writable descriptor of the same file; the first one given stays.
    pub fn make_writable(&self, fd: OwnedFd) {
        // A second one loses the race and is closed: both name the same file.
        let _ = self.writable.set(fd);
    }

    fn for_writing(&self) -> BorrowedFd<'_> {
        self.writable.get().unwrap_or(&self.opened).as_fd()
    }

    /// Sets back what a write changes besides the content.
    fn restore(&self, before: &Stat, capability: Option<&[u8]>) -> io::Result<()> {
        if let Some(value) = capability {
            rustix::fs::fsetxattr(&self.opened, CAPABILITY, value, XattrFlags::empty())?;
        }
        let keep_mtime = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: Timespec {
                tv_sec: before.st_mtime,
                tv_nsec: before.st_mtime_nsec as _,
            },
        };
        rustix::fs::futimens(&self.opened, &keep_mtime)?;
        // A write by an unprivileged daemon clears set-user-ID and set-group-ID (write(2)).
        if before.st_mode & 0o6000 != 0 {
            rustix::fs::fchmod(&self.opened, rustix::fs::Mode::from_raw_mode(before.st_mode))?;
        }
        Ok(())
    }
}

impl AsFd for RealFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }
}

impl Backing for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pread(&self.opened, &mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut done = 0;
        while done < buf.len() {
            match rustix::io::pwrite(self.for_writing(), &buf[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => done += n,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    fn write_preserving_mtime(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let before = rustix::fs::fstat(&self.opened)?;
        let mut room = [0; CAPABILITY_LEN];
        // Only a program can have any.
        let capability = match before.st_mode & 0o111 {
            0 => None,
            _ => rustix::fs::fgetxattr(&self.opened, CAPABILITY, &mut room).ok(),
        };
        let written = self.write_at(buf, offset);
        // A write that fails may have moved the time all the same.
        let restored = self.restore(&before, capability.map(|len| &room[..len]));
        written.and(restored)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match rustix::fs::ftruncate(self.for_writing(), len) {
            // btrfs at the limit of a quota group fails when it has set the size (btrfs_update_inode).
            Err(Errno::DQUOT) if rustix::fs::fstat(&self.opened)?.st_size as u64 == len => Ok(()),
            done => Ok(done?),
        }
    }

    fn sync(&self, scope: SyncScope) -> io::Result<()> {
        Ok(match scope {
            SyncScope::Content => rustix::fs::fdatasync(&self.opened),
            SyncScope::All => rustix::fs::fsync(&self.opened),
        }?)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(self.for_writing(), flags, offset, len)?)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let flags = FallocateFlags::KEEP_SIZE;
        Ok(rustix::fs::fallocate(self.for_writing(), flags, offset, len)?)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        found(rustix::fs::seek(&self.opened, SeekFrom::Data(offset)))
    }

    fn next_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        found(rustix::fs::seek(&self.opened, SeekFrom::Hole(offset)))
    }
}

fn found(offset: rustix::io::Result<u64>) -> io::Result<Option<u64>> {
    match offset {
        Ok(offset) => Ok(Some(offset)),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

    use super::*;

    /// tmpfs moves the modification time before it finds that a file is sealed against writes.
    #[test]
    fn a_failed_unseen_write_leaves_the_modification_time() {
        let file = File::from(memfd_create("test", MemfdFlags::ALLOW_SEALING).unwrap());
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(86_400);
        file.set_len(100).unwrap();
        file.set_modified(day).unwrap();
        fcntl_add_seals(&file, SealFlags::WRITE).unwrap();
        let backing = RealFile::new(file.try_clone().unwrap().into(), true);
        backing.write_preserving_mtime(&[1], 0).unwrap_err();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), day);
    }
}
