//! Content: opening, reading, writing, syncing, space.

use std::sync::Arc;

use super::open_file::OpenFile;
use super::{Caller, Change, Fs, FsError, Handle, Inode, Wanted};

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
    pub(super) fn is_shared(self) -> bool {
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

/// Bytes that [`Fs::copy`] moves at a time.
const COPY_CHUNK: usize = 1024 * 1024;

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
            true => self.cut(inode, &file, &Change { size: Some(0), ..Change::default() }, caller),
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
        self.in_file(inode, self.opened(inode)?.read_with(offset, len, take))
    }

    /// Writes all of `data` at `offset` of an open file.
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
        let file = self.opened(inode)?;
        if origin == Origin::Cache {
            file.keep_mtime()?;
        }
        self.choose_key(inode, &file)?;
        self.in_file(inode, file.write(offset, data))?;
        file.note_write(origin == Origin::Cache);
        if origin == Origin::ProgramSync {
            self.in_file(inode, file.sync(false))?;
        }
        // Without its writeback cache the kernel asks for the space after each write by itself.
        let blocks_outgrown = origin == Origin::Cache && file.outgrows_told_blocks(data.len());
        Ok(Written { blocks_outgrown })
    }

    /// Makes an open file's content durable, and with `metadata` its times and modes too.
    ///
    /// # Errors
    /// [`FsError::File`]; [`FsError::Stale`] where the file is not open.
    pub fn fsync(&self, inode: Inode, metadata: bool) -> Result<(), FsError> {
        self.in_file(inode, self.opened(inode)?.sync(metadata))
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
        let zero = matches!(how, Allocate::PunchHole | Allocate::Zero | Allocate::ZeroKeepSize);
        let reserve = how != Allocate::PunchHole;
        let extend = matches!(how, Allocate::Extend | Allocate::Zero);
        if zero {
            self.in_file(inode, file.punch(offset, len))?;
        }
        if reserve {
            self.in_file(inode, file.allocate(offset, len, extend))?;
        }
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

    /// Copies up to `len` bytes between two open files, from one key to the other; returns how
    /// many, fewer where the source ends.
    ///
    /// # Errors
    /// As reading and writing; what was copied before a failure stays copied.
    pub fn copy(
        &self,
        (from, from_offset): (Inode, u64),
        (to, to_offset): (Inode, u64),
        len: u64,
        caller: &Caller,
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
        self.choose_key(to, &target)?;
        let mut copied = 0;
        while copied < len {
            let want = (len - copied).min(COPY_CHUNK as u64) as usize;
            let chunk = source.read_with(from_offset + copied, want, <[u8]>::to_vec);
            let chunk = self.in_file(from, chunk)?;
            if chunk.is_empty() {
                break;
            }
            self.in_file(to, target.write(to_offset + copied, &chunk))?;
            target.note_write(false);
            copied += chunk.len() as u64;
        }
        self.content_changed(to, caller)?;
        Ok(copied)
    }

    /// After a change of the content of which the kernel does not say who made it.
    fn content_changed(&self, inode: Inode, caller: &Caller) -> Result<(), FsError> {
        if caller.is_root() { Ok(()) } else { self.drop_privilege_bits(inode, caller) }
    }

    fn opened(&self, inode: Inode) -> Result<Arc<OpenFile>, FsError> {
        self.open.find(inode).ok_or(FsError::Stale)
    }
}
