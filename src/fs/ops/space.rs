//! Space in the backing filesystem: reserving it, giving it back, and running out of it.

use std::io::ErrorKind;
use std::sync::atomic::Ordering;

use rustix::fs::StatVfs;
use rustix::io::Errno;

use crate::fs::ops::change::Origin;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Inode, Subject};
use crate::store::{FileError, Vault};
use crate::sys;

/// Less space than this, in bytes, is looked at before each write.
const SCARCE_SPACE: u64 = 4 << 30;

/// How [`Fs::allocate`] treats a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserve it, and make the file long enough.
    Extend,
    /// Reserve it; the length stays.
    KeepSize,
    /// Make it read as zeros and free its space; the length stays.
    PunchHole,
    /// Make it read as zeros, reserve it, and make the file long enough.
    Zero,
    /// Make it read as zeros and reserve it; the length stays.
    ZeroKeepSize,
}

impl Fs {
    /// Reserves, zeroes or frees `len` bytes from `offset` of an open file.
    ///
    /// # Errors
    /// [`FsError::File`]; [`FsError::Stale`] where the file is not open.
    pub fn allocate(
        &self,
        inode: Inode,
        offset: u64,
        len: u64,
        how: Allocate,
        subject: &Subject,
    ) -> Result<(), FsError> {
        let file = self.opened(inode)?;
        self.choose_key(inode, &file)?;
        let by_root = subject.is_root();
        let reserve = |extend| {
            self.with_room(by_root, || {
                self.require_room(&file, offset, len, by_root)?;
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
        self.content_changed(inode, subject)
    }

    /// The backing filesystem's space, and how long a name may be.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of fstatvfs(3).
    pub fn statfs(&self) -> Result<StatVfs, FsError> {
        let mut space = rustix::fs::fstatvfs::<&Vault>(&self.vault)?;
        space.f_namemax = self.resolver.names().longest(space.f_namemax);
        Ok(space)
    }

    /// How many bytes users may still write to the backing filesystem; `None` where it does not say.
    /// Where that is little and root could write more, writes are held to it from now on.
    pub fn look_at_space(&self) -> Option<u64> {
        let space = rustix::fs::fstatvfs::<&Vault>(&self.vault).ok()?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let reserved = space.f_bavail < space.f_bfree && free < SCARCE_SPACE;
        self.is_space_scarce.store(reserved, Ordering::Relaxed);
        Some(free)
    }

    /// Whether a user other than root may write `len` bytes at `offset` of an open file: the daemon
    /// could use up what the backing filesystem keeps for root, and is not to.
    ///
    /// # Errors
    /// [`FileError::Io`] with ENOSPC, as from the backing filesystem.
    pub(in crate::fs) fn require_room(
        &self,
        file: &OpenFile,
        offset: u64,
        len: u64,
        by_root: bool,
    ) -> Result<(), FileError> {
        if by_root || !self.is_space_scarce.load(Ordering::Relaxed) || self.euid != 0 {
            return Ok(());
        }
        let space = rustix::fs::fstatvfs::<&Vault>(&self.vault)?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        // Content takes 1 % more in the vault, and a file has more than its content.
        let needed = len + len / 64 + (1 << 20);
        if free >= needed || file.has_space(offset, len) {
            Ok(())
        } else {
            Err(Errno::NOSPC.into())
        }
    }

    /// Does `work`. What finds no room waits for that of files which were just removed, and is done
    /// again; so is what `by_root` ended at a quota, beyond it: a quota does not bind root.
    pub(in crate::fs) fn with_room<T>(
        &self,
        by_root: bool,
        mut work: impl FnMut() -> Result<T, FileError>,
    ) -> Result<T, FileError> {
        let mut done = work();
        if lacks_room(&done, &[ErrorKind::StorageFull, ErrorKind::QuotaExceeded])
            && self.pending_frees.wait()
        {
            done = work();
        }
        if by_root && lacks_room(&done, &[ErrorKind::QuotaExceeded]) {
            sys::beyond_limits(work)
        } else {
            done
        }
    }
}

fn lacks_room<T>(done: &Result<T, FileError>, of: &[ErrorKind]) -> bool {
    matches!(done, Err(FileError::Io(error)) if of.contains(&error.kind()))
}
