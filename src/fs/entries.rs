//! Making names and taking them away.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::lookup::Entry;
use super::place::Place;
use super::{Caller, Fs, FsError, Handle, Inode, Wanted};

impl Fs {
    /// Makes an empty file and opens it.
    ///
    /// # Errors
    /// [`FsError::Denied`]; what the backing filesystem says.
    pub fn create(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        (wanted, exclusive): (Wanted, bool),
        caller: &Caller,
    ) -> Result<(Entry, Handle), FsError> {
        let tree = self.tree.read();
        let place = self.place(parent, name)?;
        // A file that could not be written must not be made.
        let key = self.key_of_dir(parent)?;
        let may = self
            .may_create(parent, name, key, wanted, caller)
            .and_then(|()| Ok(self.vault.context().require_enabled(key)?));
        self.record_refused("create", || self.path_in(parent, name), || caller.who(), may)?;
        self.trail_admits()?;
        match create_file(&place, mode) {
            Ok(fd) => {
                let made = self.settle(&place, caller)?;
                let attr = self.attr(&place, &made)?;
                let file = self.open.adopt(attr.inode, fd)?;
                file.choose_key(key);
                let recorded = self.record_create((parent, name), &file, key, wanted, caller);
                drop(file);
                if let Err(error) = recorded {
                    // What is told is why it was not made.
                    let _ = self.open.release(attr.inode);
                    let _ = rustix::fs::unlinkat(place.dir(), place.name(), AtFlags::empty());
                    return Err(error);
                }
                let generation = self.nodes.remember(&attr, self.link_to(parent, &place));
                let handle = self.handles.open(self, attr.inode, wanted, caller);
                Ok((Entry { attr, generation }, handle))
            }
            Err(Errno::EXIST) if !exclusive => {
                drop(tree);
                let mut entry = self.lookup(parent, name)?;
                let handle = self.open(entry.attr.inode, wanted, caller).inspect_err(|_| {
                    self.forget(entry.attr.inode, 1);
                })?;
                if wanted.empty {
                    entry.attr = self.getattr(entry.attr.inode)?;
                }
                Ok((entry, handle))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a file that is not opened, a FIFO, a socket or a device.
    ///
    /// # Errors
    /// [`FsError::Denied`] for a file; what the backing filesystem says.
    pub fn mknod(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        rdev: u32,
        caller: &Caller,
    ) -> Result<Entry, FsError> {
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Unknown => FileType::RegularFile,
            kind => kind,
        };
        if kind == FileType::RegularFile {
            let _tree = self.tree.read();
            let key = self.key_of_dir(parent)?;
            let unopened = Wanted { read: false, write: false, empty: false };
            let may = self.may_create(parent, name, key, unopened, caller);
            self.record_refused("mknod", || self.path_in(parent, name), || caller.who(), may)?;
        }
        self.make(parent, name, caller, |place| {
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
    /// [`FsError::Denied`]; what the backing filesystem says.
    pub fn link(
        &self,
        inode: Inode,
        parent: Inode,
        name: &OsStr,
        caller: &Caller,
    ) -> Result<Entry, FsError> {
        let _tree = self.tree.read();
        let from = self.places.of(&self.nodes, inode)?;
        let to = self.place(parent, name)?;
        let may = self.may_link((inode, &from), (parent, name), caller);
        self.record_refused("link", || self.path_in(parent, name), || caller.who(), may)?;
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
        let tree = self.tree.write();
        let place = self.place(parent, name)?;
        let stat = place.stat()?;
        let pin = pin_last_name(&place, &stat);
        rustix::fs::unlinkat(place.dir(), place.name(), flags)?;
        let bulk = self.name_is_gone(parent, &place, &stat, pin)?;
        drop(tree);
        bulk.into_iter().for_each(Bulk::give_back);
        Ok(())
    }

    /// Notes that the name at `place`, which was of `stat`, is gone. Returns what there is to give
    /// back at once, without the tree's lock.
    pub(super) fn name_is_gone(
        &self,
        parent: Inode,
        place: &Place,
        stat: &Stat,
        pin: Option<OwnedFd>,
    ) -> Result<Option<Bulk>, FsError> {
        let mut left = self.attr(place, stat)?;
        left.nlink = match left.kind {
            FileType::Directory => 0,
            _ => left.nlink.saturating_sub(1),
        };
        if left.kind == FileType::Directory {
            self.places.forget_dir(left.inode);
            self.assignments.remove(&left.inode);
        }
        let is_bulk = left.kind == FileType::RegularFile
            && left.nlink == 0
            && stat.st_size >= BULK
            && self.open.find(left.inode).is_none();
        let bulk = if is_bulk { pin.as_ref().and_then(|pin| pin.try_clone().ok()) } else { None };
        self.nodes.unlink(&self.link_to(parent, place), left, pin);
        Ok(bulk.map(Bulk))
    }
}

/// Bytes of a file that are worth giving back before the kernel forgets the file: whoever deletes
/// to make room on a full disk has it when the call returns.
const BULK: i64 = 1024 * 1024;

/// A large file without a name that nobody has open, nor can: its inode is pinned still.
pub(super) struct Bulk(OwnedFd);

impl Bulk {
    /// Gives its space back, as far as that is allowed; else it goes with the pin.
    pub(super) fn give_back(self) {
        let path = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let Ok(file) = rustix::fs::open(&*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        else {
            return;
        };
        // A link made behind the daemon's back is no reason to lose the content.
        if rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink == 0) {
            let _ = rustix::fs::ftruncate(&file, 0);
        }
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
