//! Finding names, and forgetting inodes.

use std::ffi::{OsStr, OsString};

use std::sync::atomic::Ordering;

use rustix::fs::{FileType, StatVfs};
use rustix::io::Errno;

use super::at_path::Place;
use super::nodes::Forgotten;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Attr, Fs, FsError, Inode};
use crate::store::{FileError, Vault};

/// Less space than this, in bytes, is looked at before each write.
const SCARCE: u64 = 4 << 30;

/// A name that was found, or made.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What it names.
    pub attr: Attr,
    /// Tells this file from an earlier one of the same number.
    pub generation: u32,
}

impl Fs {
    /// Finds `name` in `parent`. The inode is remembered until [`Fs::forget`].
    ///
    /// # Errors
    /// [`FsError::NotFound`]; what the backing filesystem says.
    pub fn lookup(&self, parent: Inode, name: &OsStr) -> Result<Entry, FsError> {
        let place = match self.place(parent, name) {
            Err(FsError::Reserved) => return Err(FsError::NotFound),
            place => place?,
        };
        let _held = self.hold(parent, &place);
        self.entry(parent, &place)
    }

    /// Takes back `lookups` of an inode.
    pub fn forget(&self, inode: Inode, lookups: u64) {
        self.nodes.forget(inode, lookups, |Forgotten { inode, kind, pin }| {
            if kind == FileType::Directory {
                self.assignments.forget(inode);
            }
            if let Some(pin) = pin {
                self.reaper.let_go(pin);
            }
        });
    }

    /// What stat shows of an inode.
    ///
    /// # Errors
    /// [`FsError::Stale`] where no place of it is known; what the backing filesystem says.
    pub fn getattr(&self, inode: Inode) -> Result<Attr, FsError> {
        self.attr_and_tell(inode, true)
    }

    /// [`Fs::getattr`]; unless `told`, the kernel does not take what it is told of the space.
    pub(in crate::fs) fn attr_and_tell(&self, inode: Inode, told: bool) -> Result<Attr, FsError> {
        if let Some(file) = self.open.find(inode) {
            let mut attr = Attr::new(inode, &file.stat()?, file.len());
            let blocks = file.told_blocks();
            attr.blocks = if told { blocks.tell(attr.blocks) } else { blocks.shown(attr.blocks) };
            return Ok(attr);
        }
        let (place, _held) = match self.held_place(inode) {
            // Held by nothing, for want of descriptors: what is remembered is the truth.
            Err(FsError::NotFound) => return self.nodes.left(inode).ok_or(FsError::NotFound),
            found => found?,
        };
        let attr = self.attr(&place, &self.stat(&place)?.0)?;
        if attr.inode == inode { Ok(attr) } else { Err(FsError::Stale) }
    }

    /// The target of a symbolic link.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn readlink(&self, inode: Inode) -> Result<OsString, FsError> {
        let (place, _held) = self.held_inode(inode)?;
        let target = rustix::fs::readlinkat(place.dir(), place.name(), Vec::new())?;
        Ok(std::os::unix::ffi::OsStringExt::from_vec(target.into_bytes()))
    }

    /// The backing filesystem's space, and how long a name may be.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn statfs(&self) -> Result<StatVfs, FsError> {
        let mut space = rustix::fs::fstatvfs::<&Vault>(&self.vault)?;
        space.f_namemax = self.places.names().longest(space.f_namemax);
        Ok(space)
    }

    /// How many bytes users may still write to the backing filesystem; `None` where it does not say.
    /// Where that is little and root could write more, writes are held to it from now on.
    pub fn look_at_space(&self) -> Option<u64> {
        let space = rustix::fs::fstatvfs::<&Vault>(&self.vault).ok()?;
        let free = space.f_bavail.saturating_mul(space.f_frsize);
        let reserved = space.f_bavail < space.f_bfree && free < SCARCE;
        self.scarce.store(reserved, Ordering::Relaxed);
        Some(free)
    }

    /// Whether a user other than root may write `len` bytes at `offset` of an open file: the daemon
    /// could use up what the backing filesystem keeps for root, and is not to.
    ///
    /// # Errors
    /// ENOSPC, as if the backing filesystem had said so.
    pub(in crate::fs) fn require_room(
        &self,
        file: &OpenFile,
        (offset, len): (u64, u64),
        by_root: bool,
    ) -> Result<(), FileError> {
        if by_root || !self.scarce.load(Ordering::Relaxed) || self.euid != 0 {
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

    /// Remembers what lies at `place` in `parent`, and shows it. The caller holds the name.
    pub(in crate::fs) fn entry(&self, parent: Inode, place: &Place) -> Result<Entry, FsError> {
        let (stat, generation) = self.stat(place).map_err(not_found)?;
        let attr = self.attr(place, &stat)?;
        let generation = self.nodes.remember(&attr, generation, self.link_to(parent, place));
        Ok(Entry { attr, generation })
    }
}

fn not_found(errno: Errno) -> FsError {
    match errno {
        Errno::NOENT => FsError::NotFound,
        errno => errno.into(),
    }
}
