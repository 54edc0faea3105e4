//! Removing names.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, OFlags, Stat};

use crate::fs::descriptors;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::namespace::key_locks::KeyLock;
use crate::fs::namespace::nodes::Link;
use crate::fs::namespace::pin::Pin;
use crate::fs::{Attr, Fs, FsError, Inode};

/// A name that is about to be removed.
pub struct Removal<'a> {
    pub at_path: AtPath,
    link: Link,
    /// What it names, as it will be.
    left: Attr,
    pin: Option<Pin>,
    /// Holds the inode until the removal is noted, where no descriptor can be spared for longer: its
    /// number is not to mean another file before.
    passing: Option<Arc<OwnedFd>>,
    is_large: bool,
    links: Option<KeyLock<'a>>,
}

/// Bytes of a file whose space is worth waiting for.
const LARGE: i64 = 256 * 1024;

impl Fs {
    /// Removes a name; the file stays while it is open or has another. Returns its inode.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of unlinkat(2).
    pub fn unlink(&self, parent: Inode, name: &OsStr) -> Result<Inode, FsError> {
        self.remove(parent, name, AtFlags::empty())
    }

    /// Removes an empty directory. Returns its inode.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of unlinkat(2): ENOTEMPTY for a directory with names in
    /// it.
    pub fn rmdir(&self, parent: Inode, name: &OsStr) -> Result<Inode, FsError> {
        self.remove(parent, name, AtFlags::REMOVEDIR)
    }

    pub(in crate::fs) fn remove(
        &self,
        parent: Inode,
        name: &OsStr,
        flags: AtFlags,
    ) -> Result<Inode, FsError> {
        let at_path = self.at_path(parent, name)?;
        let held = self.lock_name_alone(parent, &at_path);
        let stat = at_path.stat()?;
        let going = self.prepare_removal(parent, at_path, stat)?;
        let at_path = &going.at_path;
        rustix::fs::unlinkat(at_path.dir(), at_path.name(), flags)?;
        let removed = going.left.inode;
        self.finish_removal(going);
        drop(held);
        Ok(removed)
    }

    /// Prepares the removal of a name, where `stat` was found. The caller holds its lock
    /// exclusively. All that can fail does so here, before the name is removed.
    pub(in crate::fs) fn prepare_removal(
        &self,
        parent: Inode,
        at_path: AtPath,
        mut stat: Stat,
    ) -> Result<Removal<'_>, FsError> {
        // The only name of a file is the one that is held: without it the file gets no other.
        let is_linked =
            FileType::from_raw_mode(stat.st_mode) != FileType::Directory && stat.st_nlink > 1;
        let links =
            if is_linked { Some(self.lock_links(self.resolver.inode(&stat)?)) } else { None };
        if is_linked {
            stat = at_path.stat()?;
        }
        let mut left = self.attr(&at_path, &stat)?;
        let is_dir = left.kind == FileType::Directory;
        left.nlink = if is_dir { 0 } else { left.nlink.saturating_sub(1) };
        let link = self.link_to(parent, &at_path);
        let open = self.open.find(left.inode);
        let mut passing = None;
        let pin = match open {
            _ if left.nlink > 0 && !self.nodes.is_only_link(left.inode, &link) => None,
            Some(file) => Some(Pin::File(file)),
            None => {
                let held = if is_dir { self.resolver.open_dir(left.inode) } else { None };
                let fd = held.or_else(|| at_path.open(OFlags::PATH).ok().map(Arc::new));
                match fd {
                    Some(fd) if descriptors::is_outside_reserve(&fd) => Some(Pin::Path(fd)),
                    fd => {
                        passing = fd;
                        None
                    }
                }
            }
        };
        let is_large = left.kind == FileType::RegularFile && stat.st_size >= LARGE;
        Ok(Removal { at_path, link, left, pin, passing, is_large, links })
    }

    /// Notes that the name was removed. The content stays until the kernel forgets the inode: an
    /// O_PATH descriptor of it can still be opened.
    pub(in crate::fs) fn finish_removal(&self, going: Removal<'_>) {
        let Removal { link, left, pin, passing, is_large, links, .. } = going;
        let is_dir = left.kind == FileType::Directory;
        // The inode number must not be given to another file before all is noted.
        let pinned = pin.clone().filter(|_| is_dir);
        if left.nlink == 0 {
            self.change_times.forget(left.inode);
        }
        if left.kind == FileType::RegularFile && left.nlink == 0 {
            self.not_durable.lock().remove(&left.inode);
            if let Some(file) = self.open.nameless(left.inode) {
                self.reaper.drop_later(Pin::Path(Arc::new(file)));
            }
        }
        let pin = match pin {
            Some(Pin::Path(fd)) if is_large && left.nlink == 0 => {
                Some(Pin::Large(fd, Arc::new(self.pending_frees.expect())))
            }
            pin => pin,
        };
        self.nodes.unlink(&link, left, pin);
        if is_dir {
            self.resolver.forget_dir(left.inode);
            let _ancestry = self.ancestry.write();
            self.assignments.remove(left.inode);
        }
        drop((pinned, passing, links));
    }
}
