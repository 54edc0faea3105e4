//! Changing attributes.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Gid, Mode, Timestamps, Uid};
use rustix::io::Errno;

use super::change::{Change, Origin, Time, timestamps};
use super::open_files::open_file::OpenFile;
use super::stat::BlockCount;
use crate::fs::access::authorize::FileOperation;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::{Attr, Fs, FsError, Inode, OpenMode, Subject};

/// What an attribute is changed through: a name, or the open file itself.
pub enum Target<'a> {
    AtPath(&'a AtPath),
    File(BorrowedFd<'a>),
}

impl Fs {
    /// Changes attributes of an inode; returns those it then has.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of fchownat(2), fchmodat(2) or utimensat(2);
    /// [`FsError::Denied`] and [`FsError::File`] where the length
    /// can't be changed.
    pub fn setattr(
        &self,
        inode: Inode,
        change: &Change,
        subject: &Subject,
    ) -> Result<Attr, FsError> {
        // After each removal the kernel writes back the times of what it removed.
        if let Some(left) = self.nodes.left(inode).filter(|left| change.keeps(left)) {
            return Ok(left);
        }
        if let Some(size) = change.size {
            let file = self.acquire(inode, true)?;
            let may = match change.through {
                _ if self.is_cut_of_lost(subject) => Ok(()),
                Some(handle) => self.may_still_write(inode, handle, Origin::Program),
                None => {
                    let mode = OpenMode { empty: size == 0, ..OpenMode::WRITE };
                    self.authorize(FileOperation::Truncate, &file, mode, subject)
                }
            };
            let same = size == file.len();
            let before = file.stat();
            let cut = may.and_then(|()| self.cut(inode, &file, change, subject));
            if cut.is_ok() {
                let mut times = *change;
                if same && change.through.is_some() {
                    // Of ftruncate(2) alone the kernel leaves this to the file system.
                    times.mtime = times.mtime.or(Some(Time::Now));
                }
                file.change_times_after_cut(&times);
            }
            let len = file.len();
            drop(file);
            // What is owed of a file that was cut is no failure of the cut: the kernel would keep
            // the length that it had.
            let released = self.in_file(inode, self.open.release(inode));
            cut?;
            if let Err(error) = released {
                log::debug!("after a change of the length: {error}");
            }
            return self.attr_of(inode, BlockCount::Taken).or_else(|error| {
                // The kernel must learn of the length.
                before.map(|before| Attr::new(inode, &before, len)).map_err(|_| error)
            });
        }
        if change.is_empty() {
            // This is what arrives of a chown that names neither owner nor group.
            self.drop_privilege_bits(inode, subject)?;
        }
        let change = &match inode {
            Inode::ROOT => self.change_root(change)?,
            _ => *change,
        };
        if let Some(file) = self.open.find(inode) {
            file.change(change, || self.apply(&Target::File(file.backing().as_fd()), change))?;
        } else if !change.is_empty() || change.ctime.is_some() {
            let (at_path, _held) = self.locked_inode(inode)?;
            let at_place = || {
                self.apply(&Target::AtPath(&at_path), change)?;
                if let Some(ctime) = change.ctime {
                    self.change_times.note(inode, &at_path.stat()?, ctime.into());
                }
                Ok::<_, FsError>(())
            };
            // Not while a rewrap, which opens it, puts the modification time back.
            match self.open.while_closed(inode, at_place) {
                Ok(applied) => applied?,
                Err(file) => file
                    .change(change, || self.apply(&Target::File(file.backing().as_fd()), change))?,
            }
        }
        // With times that it writes back the kernel takes no answer.
        self.attr_of(inode, BlockCount::Ignored)
    }

    /// Sets what the vault keeps of the mount's root; returns what is left to be set of its directory.
    fn change_root(&self, change: &Change) -> Result<Change, FsError> {
        let changed = self.vault.change_root_attrs(|shown| {
            shown.uid = change.uid.unwrap_or(shown.uid);
            shown.gid = change.gid.unwrap_or(shown.gid);
            shown.mode = change.mode.map_or(shown.mode, |mode| mode & 0o7777);
        });
        changed.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(Change { mode: None, uid: None, gid: None, ..*change })
    }

    /// Gives an open file the length that `change` names.
    pub(in crate::fs) fn cut(
        &self,
        inode: Inode,
        file: &OpenFile,
        change: &Change,
        subject: &Subject,
    ) -> Result<(), FsError> {
        if self.is_cut_of_lost(subject) {
            file.cut_to_written();
            return Ok(());
        }
        self.choose_key(inode, file)?;
        // Before the cut, after which nothing is to fail. That suid goes the kernel leaves to the
        // file system, and does not say so in a way that arrives here.
        let rest = Change { size: None, atime: None, mtime: None, ..*change };
        if !rest.is_empty() {
            file.change(&rest, || self.apply(&Target::File(file.backing().as_fd()), &rest))?;
        } else if !subject.is_root() {
            self.drop_privilege_bits(inode, subject)?;
        }
        self.in_file(inode, file.truncate(change.size.unwrap_or_default()))
    }

    /// Takes suid off a file whose content or owner `subject` changed; and sgid where the group may
    /// execute, or the caller is not of the group (as Linux does, fs/attr.c).
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of fchmod(2).
    pub fn drop_privilege_bits(&self, inode: Inode, subject: &Subject) -> Result<(), FsError> {
        let attr = self.getattr(inode)?;
        let mut dropped = attr.mode & !0o4000;
        let keeps_group = attr.mode & 0o010 == 0
            && (subject.is_root() || attr.mode & 0o2000 == 0 || subject.is_in_group(attr.gid));
        if !keeps_group {
            dropped &= !0o2000;
        }
        if dropped == attr.mode || attr.kind != FileType::RegularFile {
            return Ok(());
        }
        let change = Change { mode: Some(dropped), ..Change::default() };
        match self.open.find(inode) {
            Some(file) => {
                file.change(&change, || self.apply(&Target::File(file.backing().as_fd()), &change))
            }
            None => self.apply(&Target::AtPath(&self.locked_inode(inode)?.0), &change),
        }
    }

    fn apply(&self, target: &Target<'_>, change: &Change) -> Result<(), FsError> {
        if change.uid.is_some() || change.gid.is_some() {
            target.chown(change.uid, change.gid)?;
        }
        // After the owner: changing that takes suid and sgid off.
        if let Some(mode) = change.mode {
            target.chmod(mode)?;
        }
        if change.atime.is_some() || change.mtime.is_some() {
            target.set_times(&timestamps(change))?;
        }
        Ok(())
    }
}

impl Target<'_> {
    pub fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> rustix::io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::AtPath(at_path) => {
                rustix::fs::chownat(at_path.dir(), at_path.name(), uid, gid, at_path.at_flags())
            }
            Self::File(fd) => rustix::fs::fchown(fd, uid, gid),
        }
    }

    pub fn chmod(&self, mode: u32) -> rustix::io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::AtPath(at_path) => at_path.chmod(mode),
            Self::File(fd) => rustix::fs::fchmod(fd, mode),
        }
    }

    fn set_times(&self, times: &Timestamps) -> rustix::io::Result<()> {
        match self {
            Self::AtPath(at_path) => {
                rustix::fs::utimensat(at_path.dir(), at_path.name(), times, at_path.at_flags())
            }
            Self::File(fd) => rustix::fs::futimens(fd, times),
        }
    }
}
