//! Content: reading, writing, syncing, and where data and holes are.

use super::change::Origin;
use super::lost_writes::errno_of;
use super::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Handle, Inode};
use crate::store::FileError;

/// What follows from a write that was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The file has far more blocks than the kernel was last given: the kernel must request the
    /// attributes again.
    pub blocks_outgrown: bool,
}

impl Fs {
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

    /// [`Fs::write`] with the privileges of the user that opened `handle`: one other than root is
    /// bound by quotas and by what the backing filesystem keeps for root.
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

    pub(in crate::fs) fn write_unsynced(
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
        let room = || self.require_room(&file, offset, data.len() as u64, by_root);
        let room = self.with_room(by_root, room);
        let written = room.and_then(|()| {
            if cached {
                // Tried again before the failure is noted, by which other bytes may be cut away.
                file.write_back(offset, data, |write| self.with_room(by_root, write))
            } else {
                self.with_room(by_root, || file.write(offset, data))
            }
        });
        if cached && let Err(error) = &written {
            self.note_lost_write(&file, error);
        }
        self.in_file(inode, written)?;
        file.end_change(origin);
        // Without its writeback cache the kernel asks for the space after each write by itself.
        let blocks_outgrown = origin == Origin::Cache && file.outgrows_reported_blocks(data.len());
        Ok(Written { blocks_outgrown })
    }

    /// Makes an open file's content durable, and with `metadata` its times and modes too.
    ///
    /// # Errors
    /// [`FsError::File`]; [`FsError::Backing`] where another descriptor's sync failed, once for
    /// `handle`; [`FsError::Stale`] where the file is not open.
    pub fn fsync(&self, inode: Inode, handle: Handle, metadata: bool) -> Result<(), FsError> {
        let file = self.opened(inode)?;
        let synced = self.sync(inode, &file, metadata);
        match file.failed_syncs.report_to(handle) {
            // This descriptor now knows, by the failure of its own or by that of another.
            Some(errno) => synced.and(Err(errno.into())),
            None => synced,
        }
    }

    pub(in crate::fs) fn sync(
        &self,
        inode: Inode,
        file: &OpenFile,
        metadata: bool,
    ) -> Result<(), FsError> {
        let told = |error: &FileError| (errno_of(error), self.handles.newest());
        let synced = file.failed_syncs.note_of(|| file.sync(metadata), told);
        if synced.is_err() {
            self.note_not_durable(inode, file);
        }
        self.in_file(inode, synced)
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
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use rustix::fs::{Mode, OFlags};
    use rustix::io::Errno;

    use super::*;
    use crate::fs::tests::new_fs;
    use crate::fs::{OpenMode, Subject};

    const CALLER: Subject = Subject::process(0, 0, 1);

    pub(in crate::fs) fn create(fs: &Fs, name: &str) -> (Inode, Handle) {
        let how = (OpenMode::READ_WRITE, true);
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
        let inode = fs.resolver.inode(&stat).unwrap();
        let file = fs.open.adopt(inode, fd, &stat).unwrap();
        fs.sync(inode, &file, true).unwrap_err();
        assert!(fs.not_durable.lock().contains(&inode));
        fs.unlink(Inode::ROOT, OsStr::new("file")).unwrap();
        assert!(fs.not_durable.lock().is_empty());
        fs.sync(inode, &file, true).unwrap_err();
        assert!(fs.not_durable.lock().is_empty());
        fs.close().unwrap();
    }
}
