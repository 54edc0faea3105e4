//! What stat shows.

use std::ffi::OsString;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::format::StoredLen;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::ops::open_files::backing::length_in_last_block;
use crate::fs::{Attr, Fs, FsError, Inode};

/// What the kernel does with the number of blocks in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockCount {
    /// It takes the number over.
    Taken,
    /// It ignores the attributes of the answer.
    Ignored,
}

impl Fs {
    /// What stat shows of an inode.
    ///
    /// # Errors
    /// [`FsError::Stale`] where no place of it is known; [`FsError::Backing`] with the error of
    /// statx(2).
    pub fn getattr(&self, inode: Inode) -> Result<Attr, FsError> {
        self.attr_of(inode, BlockCount::Taken)
    }

    pub(in crate::fs) fn attr_of(
        &self,
        inode: Inode,
        block_count: BlockCount,
    ) -> Result<Attr, FsError> {
        if let Some(file) = self.open.find(inode) {
            let mut attr = Attr::new(inode, &file.stat()?, file.len());
            let blocks = file.reported_blocks();
            attr.blocks = match block_count {
                BlockCount::Taken => blocks.report(attr.blocks),
                BlockCount::Ignored => blocks.shown(attr.blocks),
            };
            return Ok(attr);
        }
        let (at_path, _held) = match self.locked_path(inode) {
            // Held by nothing, for want of descriptors: what is remembered is the truth.
            Err(FsError::NotFound) => return self.nodes.left(inode).ok_or(FsError::NotFound),
            found => found?,
        };
        let attr = self.attr(&at_path, &self.stat(&at_path)?.0)?;
        if attr.inode == inode { Ok(attr) } else { Err(FsError::Stale) }
    }

    /// The attributes of what lies at `at_path`.
    pub(in crate::fs) fn attr(&self, at_path: &AtPath, stat: &Stat) -> Result<Attr, FsError> {
        let inode = self.resolver.inode(stat)?;
        let size = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file_size(inode, at_path, stat.st_size as u64),
            _ => stat.st_size as u64,
        };
        let mut attr = Attr::new(inode, stat, size);
        if attr.kind == FileType::RegularFile {
            attr.ctime = self.change_times.shown(inode, stat).into();
        }
        if attr.blocks == 0
            && attr.kind == FileType::RegularFile
            && let Some(file) = self.open.find(inode)
        {
            attr.blocks = file.reported_blocks().report(0);
        }
        if inode == Inode::ROOT {
            let shown = self.vault.root_attrs();
            (attr.mode, attr.uid, attr.gid) = (shown.mode, shown.uid, shown.gid);
            // Where subdirectories count, the vault's own is one that the mount does not have.
            attr.nlink -= u32::from(attr.nlink > 2);
        }
        Ok(attr)
    }

    /// The plaintext size of a file. Stat always works: where the size in the vault is not that
    /// of a sealed file it is shown as it is, and only opening the file fails.
    fn file_size(&self, inode: Inode, at_path: &AtPath, stored: u64) -> u64 {
        match StoredLen::from_stored(stored) {
            Ok(StoredLen::Exact(len)) => len,
            Ok(StoredLen::InBlock(_)) => match self.open.find(inode) {
                Some(file) => file.len(),
                None => length_in_last_block(at_path, stored).unwrap_or(stored),
            },
            Err(_) => stored,
        }
    }

    /// What stat says of `at_path`, and the generation of its inode number. A rewrap moves a
    /// modification time and restores it. The moved one must not be shown, since the kernel would
    /// keep it.
    pub(in crate::fs) fn stat(&self, at_path: &AtPath) -> rustix::io::Result<(Stat, u32)> {
        let quiet = self.rewraps.quiet();
        let (stat, generation) = self.resolver.stat(at_path)?;
        if quiet.is_some() && self.rewraps.quiet() == quiet {
            return Ok((stat, generation));
        }
        let number = self.resolver.number(stat.st_ino);
        match self.open.while_closed(number, || self.resolver.stat(at_path)) {
            Ok(found) => found,
            Err(file) => Ok((file.stat()?, generation)),
        }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of readlinkat(2).
    pub fn readlink(&self, inode: Inode) -> Result<OsString, FsError> {
        let (at_path, _held) = self.locked_inode(inode)?;
        let target = rustix::fs::readlinkat(at_path.dir(), at_path.name(), Vec::new())?;
        Ok(std::os::unix::ffi::OsStringExt::from_vec(target.into_bytes()))
    }

    /// Whether root may use an inode in a way that `execute` says: root may run only a file that
    /// some user may run (path_resolution(7), «Bypassing permission checks»).
    ///
    /// # Errors
    /// EACCES for such a file; as [`Fs::getattr`].
    pub fn access_by_root(&self, inode: Inode, execute: bool) -> Result<(), FsError> {
        if execute {
            let attr = self.getattr(inode)?;
            if attr.kind == FileType::RegularFile && attr.mode & 0o111 == 0 {
                return Err(Errno::ACCESS.into());
            }
        }
        Ok(())
    }
}
