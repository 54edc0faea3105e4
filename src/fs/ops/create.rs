//! Making files, directories, links and other names.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;

use super::ownership::Owner;
use crate::fs::descriptors;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::namespace::lookup::Entry;
use crate::fs::namespace::resolver;
use crate::fs::{Fs, FsError, Handle, Inode, OpenMode, Subject};

impl Fs {
    /// Makes an empty file and opens it.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::Backing`] with the error of openat(2).
    pub fn create(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        (wanted, exclusive): (OpenMode, bool),
        subject: &Subject,
    ) -> Result<(Entry, Handle), FsError> {
        let at_path = self.at_path(parent, name)?;
        let _held = self.lock_name_alone(parent, &at_path);
        // A file whose key may not be used must not be made.
        let key = self.key_of_dir(parent)?;
        self.authorize_create((parent, name), key, wanted, subject)?;
        self.require_trail()?;
        let created = match create_file(&at_path, mode) {
            Err(errno) if descriptors::is_exhausted(errno) => {
                self.free_descriptors();
                create_file(&at_path, mode)
            }
            created => created,
        };
        match created {
            Ok(fd) => {
                let made = NewName::new(&at_path, AtFlags::empty());
                let stat =
                    || self.resolver.stat_at(fd.as_fd(), OsStr::new(""), AtFlags::EMPTY_PATH);
                let mut found = stat()?;
                if self.give_to(subject, &at_path, fd.as_fd(), &found.0)? {
                    found = stat()?;
                }
                let (stat, backing) = found;
                let mut attr = self.attr(&at_path, &stat)?;
                let file = self.open.adopt(attr.inode, fd, &stat)?;
                if wanted.write {
                    file.reported_blocks().expect_writes();
                    attr.blocks = file.reported_blocks().report(attr.blocks);
                }
                file.choose_key(key);
                let recorded = self.record_create((parent, name), &file, key, wanted, subject);
                drop(file);
                if let Err(error) = recorded {
                    // The caller learns of the first error.
                    let _ = self.open.release(attr.inode);
                    return Err(error);
                }
                made.keep();
                let link = self.link_to(parent, &at_path);
                let generation = self.nodes.remember(&attr, backing, link);
                let handle = self.handles.open(attr.inode, wanted, subject);
                Ok((Entry { attr, generation }, handle))
            }
            // The kernel did not find the name, and has not checked the mode: it must look it up
            // again.
            Err(Errno::EXIST) if !exclusive => Err(FsError::Stale),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Makes a file that is not opened, a FIFO, a socket or a device.
    ///
    /// # Errors
    /// [`FsError::Denied`] for a file; [`FsError::Backing`] with the error of mknodat(2).
    pub fn mknod(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        rdev: u32,
        subject: &Subject,
    ) -> Result<Entry, FsError> {
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Unknown => FileType::RegularFile,
            kind => kind,
        };
        if kind == FileType::RegularFile {
            let key = self.key_of_dir(parent)?;
            self.authorize_mknod((parent, name), key, subject)?;
        }
        self.make(parent, name, subject, AtFlags::empty(), |dir, name| {
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::mknodat(dir, name, kind, mode, rdev.into())
        })
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of mkdirat(2).
    pub fn mkdir(
        &self,
        parent: Inode,
        name: &OsStr,
        mode: u32,
        subject: &Subject,
    ) -> Result<Entry, FsError> {
        self.make(parent, name, subject, AtFlags::REMOVEDIR, |dir, name| {
            let mode = Mode::from_raw_mode(mode & 0o7777);
            rustix::fs::mkdirat(dir, name, mode)
        })
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of symlinkat(2).
    pub fn symlink(
        &self,
        parent: Inode,
        name: &OsStr,
        target: &OsStr,
        subject: &Subject,
    ) -> Result<Entry, FsError> {
        self.make(parent, name, subject, AtFlags::empty(), |dir, name| {
            rustix::fs::symlinkat(target, dir, name)
        })
    }

    /// Gives an inode another name.
    ///
    /// # Errors
    /// [`FsError::Denied`]; [`FsError::Backing`] with the error of linkat(2).
    pub fn link(
        &self,
        inode: Inode,
        parent: Inode,
        name: &OsStr,
        subject: &Subject,
    ) -> Result<Entry, FsError> {
        let to = self.at_path(parent, name)?;
        let (from, held) = self.locked_path_and(inode, (parent, &to))?;
        self.authorize_link((inode, &from), (parent, name), subject)?;
        let from = self.itself(inode, from)?;
        let links = self.lock_links(inode);
        // With the old name taken away, this is a move.
        let moving = self.moves.begin(false);
        from.link(&to)?;
        let made = NewName::new(&to, AtFlags::empty());
        let entry = self.entry(parent, &to)?;
        made.keep();
        self.note_move(&moving, parent, &to);
        drop((moving, links, held));
        Ok(entry)
    }

    /// Makes a name by `make`, in the directory and under the name that it is given; `undo` are the
    /// flags of the unlinkat(2) that takes it away again.
    fn make(
        &self,
        parent: Inode,
        name: &OsStr,
        subject: &Subject,
        undo: AtFlags,
        make: impl FnOnce(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<()>,
    ) -> Result<Entry, FsError> {
        let at_path = self.at_path(parent, name)?;
        let _held = self.lock_name_alone(parent, &at_path);
        match self.owner_of_new(&at_path, subject)? {
            None => make(at_path.dir(), at_path.name())?,
            Some(owner) => self.make_for(owner, &at_path, undo, make)?,
        }
        let made = NewName::new(&at_path, undo);
        let (stat, backing) = self.resolver.stat(&at_path)?;
        let attr = self.attr(&at_path, &stat)?;
        made.keep();
        let generation = self.nodes.remember(&attr, backing, self.link_to(parent, &at_path));
        Ok(Entry { attr, generation })
    }

    /// Makes something for `owner` in the staging directory, which no other process reaches, and
    /// moves it to `at_path` once it has its owner. At `at_path` itself, another process could
    /// replace it before the chown.
    fn make_for(
        &self,
        owner: Owner,
        at_path: &AtPath,
        undo: AtFlags,
        make: impl FnOnce(BorrowedFd<'_>, &OsStr) -> rustix::io::Result<()>,
    ) -> Result<(), FsError> {
        let (dir, name) = self.vault.staging().map_err(resolver::backing)?;
        make(dir, OsStr::new(&name))?;
        let moved = chown_to_caller(dir, &name, owner).and_then(|()| move_to(at_path, dir, &name));
        if moved.is_err() {
            // The caller learns of the first error.
            let _ = rustix::fs::unlinkat(dir, &name, undo);
        }
        Ok(moved?)
    }
}

/// A name that was just made. It is removed again unless it is kept, so that a failure leaves
/// nothing behind. The name must stay locked, so that it is still the same file.
struct NewName<'a> {
    at_path: &'a AtPath,
    undo: AtFlags,
}

impl<'a> NewName<'a> {
    fn new(at_path: &'a AtPath, undo: AtFlags) -> Self {
        Self { at_path, undo }
    }

    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for NewName<'_> {
    fn drop(&mut self) {
        // The caller learns of the first error.
        let _ = rustix::fs::unlinkat(self.at_path.dir(), self.at_path.name(), self.undo);
    }
}

/// Gives the name in `dir`, which no other process reaches, to its owner.
fn chown_to_caller(dir: BorrowedFd<'_>, name: &str, owner: Owner) -> rustix::io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW;
    let made = rustix::fs::statat(dir, name, flags)?;
    let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
    rustix::fs::chownat(dir, name, Some(uid), Some(gid), flags)?;
    let kind = FileType::from_raw_mode(made.st_mode);
    let passed_on = if owner.passes_on && kind == FileType::Directory { 0o2000 } else { 0 };
    let mode = (made.st_mode | passed_on) & 0o7777;
    // After the owner: changing that takes suid and sgid off.
    if mode & 0o6000 != 0 && kind != FileType::Symlink {
        rustix::fs::chmodat(dir, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    Ok(())
}

/// Moves the name in `dir` to `at_path`, where there is none.
fn move_to(at_path: &AtPath, dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    let flags = RenameFlags::NOREPLACE;
    match rustix::fs::renameat_with(dir, name, at_path.dir(), at_path.name(), flags) {
        // A filesystem without the flag. The name is held: nothing of the mount's comes in between.
        Err(Errno::INVAL | Errno::NOSYS) => match at_path.stat() {
            Ok(_) => Err(Errno::EXIST),
            Err(_) => rustix::fs::renameat(dir, name, at_path.dir(), at_path.name()),
        },
        moved => moved,
    }
}

fn create_file(at_path: &AtPath, mode: u32) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(mode & 0o7777);
    let fd = rustix::fs::openat(at_path.dir(), at_path.name(), flags, mode)?;
    let made = NewName::new(at_path, AtFlags::empty());
    let fd = descriptors::for_program(fd)?;
    made.keep();
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_not_kept_is_taken_away() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(scratch.path()).unwrap();
        let dir = Arc::new(OwnedFd::from(dir));
        let at_path = |name: &str| AtPath::new(Arc::clone(&dir), OsStr::new(name));
        let names = ["file", "dir", "kept"].map(at_path);
        let fds = [&names[0], &names[2]].map(|at_path| create_file(at_path, 0o600).unwrap());
        rustix::fs::mkdirat(&dir, "dir", Mode::RWXU).unwrap();
        drop(NewName::new(&names[0], AtFlags::empty()));
        drop(NewName::new(&names[1], AtFlags::REMOVEDIR));
        NewName::new(&names[2], AtFlags::empty()).keep();
        let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
        assert_eq!(left.len(), 1);
        assert!(scratch.path().join("kept").exists());
        drop(fds);
    }
}
