//! A place in the vault as the *at calls take it: a directory descriptor and a stored name, or the
//! descriptor that holds an inode without a known name. Every path-based call is a method here.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::sys;

/// A stored name in an open directory, or a descriptor of the inode itself.
#[derive(Debug, Clone)]
pub struct AtPath {
    dir: Arc<OwnedFd>,
    /// Empty where `dir` is the inode itself.
    name: Box<OsStr>,
    /// The [`generation`] of what is to be found there, where that is known.
    born: Option<u32>,
}

impl AtPath {
    /// A stored name in an open directory.
    pub fn new(dir: Arc<OwnedFd>, stored: &OsStr) -> Self {
        Self { dir, name: OsString::from(stored).into_boxed_os_str(), born: None }
    }

    /// [`AtPath::new`] of a name that is the caller's, and of the [`generation`] of what has it.
    pub fn of_name(dir: Arc<OwnedFd>, name: Box<OsStr>, born: u32) -> Self {
        Self { dir, name, born: Some(born) }
    }

    /// What `fd` is open on, of any kind; `O_PATH` is enough.
    pub fn itself(fd: Arc<OwnedFd>) -> Self {
        Self { dir: fd, name: Box::default(), born: None }
    }

    /// Whether [`AtPath::dir`] is the inode itself, and [`AtPath::name`] empty. Calls with a directory
    /// descriptor take that with `AT_EMPTY_PATH`.
    pub fn is_itself(&self) -> bool {
        self.name.is_empty()
    }

    /// Whether it is a name in the directory that is open as `dir`.
    pub fn is_in(&self, dir: &Arc<OwnedFd>) -> bool {
        Arc::ptr_eq(dir, &self.dir)
    }

    /// Whether what has the generation `born` may be what is to be found there.
    pub fn may_be(&self, born: u32) -> bool {
        self.born.is_none_or(|known| known == born)
    }

    /// The directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The stored name; `.` for the root.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// A path for the calls that have no form with a directory descriptor. It names what is at
    /// the place, not what a symbolic link there points to: when used with an `l…` call, or for
    /// [`AtPath::is_itself`] with one that follows links.
    pub fn proc_path(&self) -> PathBuf {
        let dir = PathBuf::from(sys::descriptor_path(&self.dir));
        if self.is_itself() { dir } else { dir.join(&*self.name) }
    }

    /// `AT_SYMLINK_NOFOLLOW`, and `AT_EMPTY_PATH` where that is needed.
    pub fn at_flags(&self) -> AtFlags {
        if self.is_itself() {
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        }
    }

    /// What lies there.
    ///
    /// # Errors
    /// That of fstatat(2).
    pub fn stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.dir, &*self.name, self.at_flags())
    }

    /// Opens what lies there, with `O_CLOEXEC`; never what a symbolic link there points to.
    ///
    /// # Errors
    /// That of openat(2).
    pub fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        if self.is_itself() {
            return sys::reopen(&self.dir, flags);
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.dir, &*self.name, flags, Mode::empty())
    }

    /// Sets the mode of [`AtPath::is_itself`], which is no symbolic link.
    ///
    /// # Errors
    /// EINVAL for a name, which might lead elsewhere; that of chmod(2).
    pub fn chmod(&self, mode: Mode) -> rustix::io::Result<()> {
        rustix::fs::chmod(self.own_path()?, mode)
    }

    /// Gives [`AtPath::is_itself`] the name `to` as well.
    ///
    /// # Errors
    /// As [`AtPath::chmod`].
    pub fn link(&self, to: &AtPath) -> rustix::io::Result<()> {
        let path = self.own_path()?;
        rustix::fs::linkat(CWD, &path, &to.dir, &*to.name, AtFlags::SYMLINK_FOLLOW)
    }

    /// A path for a call that follows links.
    fn own_path(&self) -> rustix::io::Result<PathBuf> {
        if self.is_itself() { Ok(self.proc_path()) } else { Err(Errno::INVAL) }
    }
}
