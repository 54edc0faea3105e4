//! Making names and taking them away.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::lookup::Entry;
use super::place::Place;
use super::{Caller, Fs, FsError, Inode};

impl Fs {
    /// Makes an empty file and opens it.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn create(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        exclusive: bool,
        caller: &Caller,
    ) -> Result<Entry, FsError> {
        let tree = self.tree.read();
        let place = self.place(parent, name)?;
        // A file that could not be written must not be made.
        let key = self.key_of_dir(parent)?;
        self.vault.context().require_enabled(key)?;
        match create_file(&place, mode) {
            Ok(fd) => {
                let made = self.settle(&place, caller)?;
                let attr = self.attr(&place, &made)?;
                self.open.adopt(attr.inode, fd)?.choose_key(key);
                let generation = self.nodes.remember(&attr, self.link_to(parent, &place));
                Ok(Entry { attr, generation })
            }
            Err(Errno::EXIST) if !exclusive => {
                drop(tree);
                let entry = self.lookup(parent, name)?;
                self.open(entry.attr.inode, true).inspect_err(|_| {
                    self.forget(entry.attr.inode, 1);
                })?;
                Ok(entry)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a file that is not opened, a FIFO, a socket or a device.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn mknod(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        rdev: u32,
        caller: &Caller,
    ) -> Result<Entry, FsError> {
        self.make(parent, name, caller, |place| {
            let kind = match FileType::from_raw_mode(mode) {
                FileType::Unknown => FileType::RegularFile,
                kind => kind,
            };
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::mknodat(place.dir(), place.name(), kind, mode, rdev.into())
        })
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn mkdir(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        caller: &Caller,
    ) -> Result<Entry, FsError> {
        self.make(parent, name, caller, |place| {
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::mkdirat(place.dir(), place.name(), mode)
        })
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn symlink(
        &self,
        parent: Inode,
        name: &OsStr,
        target: &OsStr,
        caller: &Caller,
    ) -> Result<Entry, FsError> {
        self.make(parent, name, caller, |place| {
            rustix::fs::symlinkat(target, place.dir(), place.name())
        })
    }

    /// Gives an inode another name.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn link(&self, inode: Inode, parent: Inode, name: &OsStr) -> Result<Entry, FsError> {
        let _tree = self.tree.read();
        let from = self.places.of(&self.nodes, inode)?;
        let to = self.place(parent, name)?;
        let flags = AtFlags::empty();
        rustix::fs::linkat(from.dir(), from.name(), to.dir(), to.name(), flags)?;
        // With the old name taken away, this is a move.
        self.note_move(parent, &to);
        self.entry(parent, &to)
    }

    /// Takes a name away; the file lives on while it is open or has another.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn unlink(&self, parent: Inode, name: &OsStr) -> Result<(), FsError> {
        self.remove(parent, name, AtFlags::empty())
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn rmdir(&self, parent: Inode, name: &OsStr) -> Result<(), FsError> {
        self.remove(parent, name, AtFlags::REMOVEDIR)
    }

    fn make(
        &self,
        parent: Inode,
        name: &OsStr,
        caller: &Caller,
        make: impl FnOnce(&Place) -> rustix::io::Result<()>,
    ) -> Result<Entry, FsError> {
        let _tree = self.tree.read();
        let place = self.place(parent, name)?;
        make(&place)?;
        let made = self.settle(&place, caller)?;
        let attr = self.attr(&place, &made)?;
        let generation = self.nodes.remember(&attr, self.link_to(parent, &place));
        Ok(Entry { attr, generation })
    }

    /// Gives what was just made at `place` to its caller; if that fails it is taken away again.
    fn settle(&self, place: &Place, caller: &Caller) -> Result<Stat, FsError> {
        let made = place.stat()?;
        let given = self
            .give_to(caller, place, &made)
            .and_then(|changed| if changed { Ok(place.stat()?) } else { Ok(made) });
        if given.is_err() {
            let directory = FileType::from_raw_mode(made.st_mode) == FileType::Directory;
            let flags = if directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // What is told is why it could not be given away.
            let _ = rustix::fs::unlinkat(place.dir(), place.name(), flags);
        }
        given
    }

    fn remove(&self, parent: Inode, name: &OsStr, flags: AtFlags) -> Result<(), FsError> {
        let _tree = self.tree.write();
        let place = self.place(parent, name)?;
        let stat = place.stat()?;
        let pin = pin_last_name(&place, &stat);
        rustix::fs::unlinkat(place.dir(), place.name(), flags)?;
        self.name_is_gone(parent, &place, &stat, pin)
    }

    /// Notes that the name at `place`, which was of `stat`, is gone.
    pub(super) fn name_is_gone(
        &self,
        parent: Inode,
        place: &Place,
        stat: &Stat,
        pin: Option<OwnedFd>,
    ) -> Result<(), FsError> {
        let mut left = self.attr(place, stat)?;
        left.nlink = match left.kind {
            FileType::Directory => 0,
            _ => left.nlink.saturating_sub(1),
        };
        if left.kind == FileType::Directory {
            self.places.forget_dir(left.inode);
            self.assignments.remove(&left.inode);
        }
        self.nodes.unlink(&self.link_to(parent, place), left, pin);
        Ok(())
    }
}

/// Before the last name of an inode goes: a hold on the inode. Without one, as where too many
/// files are open, the number may be given to a new file a moment too soon.
pub(super) fn pin_last_name(place: &Place, stat: &Stat) -> Option<OwnedFd> {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    (directory || stat.st_nlink == 1)
        .then(|| rustix::fs::openat(place.dir(), place.name(), flags, Mode::empty()).ok())
        .flatten()
}

fn create_file(place: &Place, mode: u32) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(place.dir(), place.name(), flags, Mode::from_raw_mode(mode & 0o7777))
}
