//! Changing attributes.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::data::Origin;
use super::open_files::open_file::OpenFile;
use crate::fs::namespace::at_path::Place;
use crate::fs::{Attr, Caller, Fs, FsError, Handle, Inode, Wanted};

/// A time to set.
#[derive(Debug, Clone, Copy)]
pub enum Time {
    /// The moment of the change.
    Now,
    /// This one.
    At(SystemTime),
}

/// What to change; `None` stays as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Change {
    /// Permission bits with suid, sgid and sticky.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<Time>,
    /// Last change of the content.
    pub mtime: Option<Time>,
    /// The last change of anything, where the kernel keeps that.
    pub ctime: Option<SystemTime>,
    /// The open file through which it is done, by one who could open it for that.
    pub through: Option<Handle>,
}

/// What an attribute is changed through: a name, or the open file itself.
enum Target<'a> {
    Place(&'a Place),
    File(BorrowedFd<'a>),
}

impl Fs {
    /// Changes attributes of an inode; returns those it then has.
    ///
    /// # Errors
    /// What the backing filesystem says; [`FsError::Denied`] and [`FsError::File`] where the length
    /// can't be changed.
    pub fn setattr(&self, inode: Inode, change: &Change, caller: &Caller) -> Result<Attr, FsError> {
        // After each removal the kernel writes back the times of what it removed.
        if let Some(left) = self.nodes.left(inode).filter(|left| change.keeps(left)) {
            return Ok(left);
        }
        if let Some(size) = change.size {
            let file = self.acquire(inode, true)?;
            let may = match change.through {
                _ if self.is_cut_of_lost(caller) => Ok(()),
                Some(handle) => self.may_still_write(inode, handle, Origin::Program),
                None => {
                    let wanted = Wanted { empty: size == 0, ..Wanted::WRITE };
                    let may = self
                        .may_open(inode, &file, wanted, caller)
                        .and_then(|()| self.require_key(inode, &file, wanted, caller));
                    match may {
                        // The rest of an open, which was recorded.
                        Ok(())
                            if self.trail().is_some()
                                && wanted.empty
                                && self.is_rest_of_open(inode, caller) =>
                        {
                            Ok(())
                        }
                        may => self.record_open("truncate", (inode, &file), wanted, caller, may),
                    }
                }
            };
            let same = size == file.len();
            let before = file.stat();
            let cut = may.and_then(|()| self.cut(inode, &file, change, caller));
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
            return self.attr_and_tell(inode, true).or_else(|error| {
                // The kernel must learn of the length.
                before.map(|before| Attr::new(inode, &before, len)).map_err(|_| error)
            });
        }
        if change.is_empty() {
            // This is what arrives of a chown that names neither owner nor group.
            self.drop_privilege_bits(inode, caller)?;
        }
        let change = &match inode {
            Inode::ROOT => self.change_root(change)?,
            _ => *change,
        };
        if let Some(file) = self.open.find(inode) {
            file.change(change, || self.apply(&Target::File(file.backing().as_fd()), change))?;
        } else if !change.is_empty() || change.ctime.is_some() {
            let (place, _held) = self.held_inode(inode)?;
            let at_place = || {
                self.apply(&Target::Place(&place), change)?;
                if let Some(ctime) = change.ctime {
                    self.change_times.note(inode, &place.stat()?, ctime.into());
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
        self.attr_and_tell(inode, false)
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
        caller: &Caller,
    ) -> Result<(), FsError> {
        if self.is_cut_of_lost(caller) {
            file.cut_to_written();
            return Ok(());
        }
        self.choose_key(inode, file)?;
        // Before the cut, after which nothing is to fail. That suid goes the kernel leaves to the
        // file system, and does not say so in a way that arrives here.
        let rest = Change { size: None, atime: None, mtime: None, ..*change };
        if !rest.is_empty() {
            file.change(&rest, || self.apply(&Target::File(file.backing().as_fd()), &rest))?;
        } else if !caller.is_root() {
            self.drop_privilege_bits(inode, caller)?;
        }
        self.in_file(inode, file.truncate(change.size.unwrap_or_default()))
    }

    /// Whether root may use an inode in a way that `execute` says: it may but run a file that
    /// nobody may run (path_resolution(7), «Bypassing permission checks»).
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

    /// Takes suid off a file whose content or owner `caller` changed; and sgid where the group may
    /// execute, or the caller is not of the group (as Linux does, fs/attr.c).
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn drop_privilege_bits(&self, inode: Inode, caller: &Caller) -> Result<(), FsError> {
        let attr = self.getattr(inode)?;
        let mut dropped = attr.mode & !0o4000;
        let keeps_group = attr.mode & 0o010 == 0
            && (caller.is_root() || attr.mode & 0o2000 == 0 || caller.is_in_group(attr.gid));
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
            None => self.apply(&Target::Place(&self.held_inode(inode)?.0), &change),
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

    /// Gives the file that was just made at `place` and is open as `fd` to its owner. Returns whether
    /// that changed anything.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub(in crate::fs) fn give_to(
        &self,
        caller: &Caller,
        (place, fd): (&Place, BorrowedFd<'_>),
        made: &Stat,
    ) -> Result<bool, FsError> {
        let Some(owner) = self.owner_of_new(place, caller)? else { return Ok(false) };
        let uid = (made.st_uid != owner.uid).then_some(owner.uid);
        let gid = (made.st_gid != owner.gid).then_some(owner.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(false);
        }
        let target = Target::File(fd);
        target.chown(uid, gid)?;
        // That takes suid and sgid off.
        if made.st_mode & 0o6000 != 0 {
            target.chmod(made.st_mode & 0o7777)?;
        }
        Ok(true)
    }

    /// To whom belongs what `caller` makes at `place`, where that is another than the kernel below
    /// gives it to.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub(in crate::fs) fn owner_of_new(
        &self,
        place: &Place,
        caller: &Caller,
    ) -> rustix::io::Result<Option<Owner>> {
        let uid = caller.uid;
        // The vault's own directory passes nothing on for the mount's root.
        let root = self.places.is_in_root(place).then(|| self.vault.root_attrs());
        if let Some(root) = root.filter(|root| root.mode & 0o2000 != 0) {
            return Ok(Some(Owner { uid, gid: root.gid, passes_on: true }));
        }
        if uid == self.euid && caller.gid == self.egid {
            return Ok(None);
        }
        let dir = rustix::fs::fstat(place.dir())?;
        Ok(Some(match dir.st_mode & 0o2000 {
            0 => Owner { uid, gid: caller.gid, passes_on: false },
            _ => Owner { uid, gid: dir.st_gid, passes_on: true },
        }))
    }
}

/// To whom something new belongs.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub uid: u32,
    pub gid: u32,
    /// The group is the directory's, which directories below pass on too.
    pub passes_on: bool,
}

impl Target<'_> {
    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> rustix::io::Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Place(place) => {
                rustix::fs::chownat(place.dir(), place.name(), uid, gid, place.at_flags())
            }
            Self::File(fd) => rustix::fs::fchown(fd, uid, gid),
        }
    }

    fn chmod(&self, mode: u32) -> rustix::io::Result<()> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Self::Place(place) => place.chmod(mode),
            Self::File(fd) => rustix::fs::fchmod(fd, mode),
        }
    }

    fn set_times(&self, times: &Timestamps) -> rustix::io::Result<()> {
        match self {
            Self::Place(place) => {
                rustix::fs::utimensat(place.dir(), place.name(), times, place.at_flags())
            }
            Self::File(fd) => rustix::fs::futimens(fd, times),
        }
    }
}

impl Change {
    fn is_empty(&self) -> bool {
        self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.atime.is_none()
            && self.mtime.is_none()
    }

    /// Whether the attributes are as it wants them already, but for the time of the change itself.
    fn keeps(&self, attr: &Attr) -> bool {
        let is_mtime = |time| matches!(time, Time::At(time) if time == attr.mtime);
        self.mode.is_none()
            && self.uid.is_none()
            && self.gid.is_none()
            && self.size.is_none()
            && self.atime.is_none()
            && self.mtime.is_some_and(is_mtime)
    }
}

pub fn timestamps(change: &Change) -> Timestamps {
    Timestamps { last_access: timespec(change.atime), last_modification: timespec(change.mtime) }
}

fn timespec(time: Option<Time>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(Time::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(Time::At(time)) => match time.duration_since(SystemTime::UNIX_EPOCH) {
            Ok(after) => exact(after.as_secs() as i64, after.subsec_nanos()),
            Err(error) => before_epoch(error.duration()),
        },
    }
}

/// A time before 1970: whole seconds round down, the nanoseconds count up from there.
fn before_epoch(before: Duration) -> Timespec {
    match before.subsec_nanos() {
        0 => exact(-(before.as_secs() as i64), 0),
        nanos => exact(-(before.as_secs() as i64) - 1, 1_000_000_000 - nanos),
    }
}

fn exact(seconds: i64, nanoseconds: u32) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() }
}
