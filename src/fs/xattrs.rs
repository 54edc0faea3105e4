//! Extended attributes.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;

use super::assign::is_own;
use super::{Caller, Fs, FsError, Inode};

/// The longest list or value that Linux has (limits.h: XATTR_LIST_MAX, XATTR_SIZE_MAX).
const LONGEST: usize = 65536;

/// How the names of access control lists begin (xattr(7)).
const ACL: &[u8] = b"system.posix_acl_";

/// How the names begin that only root may see (xattr(7)).
const TRUSTED: &[u8] = b"trusted.";

/// What an attribute is reached through: there are no calls with a directory descriptor.
enum Target<'a> {
    File(BorrowedFd<'a>),
    Path(&'a Path),
    /// What the path leads to in the end, for an inode without a known name.
    Pinned(&'a Path),
}

impl Fs {
    /// Sets an attribute; `flags` may ask that it be new, or be there.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn setxattr(
        &self,
        inode: Inode,
        name: &OsStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), FsError> {
        refuse(name)?;
        self.on_target(inode, |target| match target {
            Target::File(fd) => rustix::fs::fsetxattr(fd, name, value, flags),
            Target::Path(path) => rustix::fs::lsetxattr(*path, name, value, flags),
            Target::Pinned(path) => rustix::fs::setxattr(*path, name, value, flags),
        })
    }

    /// An attribute's value.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn getxattr(&self, inode: Inode, name: &OsStr) -> Result<Vec<u8>, FsError> {
        refuse(name)?;
        self.on_target(inode, |target| {
            with_room(|room| match target {
                Target::File(fd) => rustix::fs::fgetxattr(fd, name, room),
                Target::Path(path) => rustix::fs::lgetxattr(*path, name, room),
                Target::Pinned(path) => rustix::fs::getxattr(*path, name, room),
            })
        })
    }

    /// The names of all attributes that the caller may know of, each ended by a zero byte.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn listxattr(&self, inode: Inode, caller: &Caller) -> Result<Vec<u8>, FsError> {
        let names = self.on_target(inode, |target| {
            with_room(|room| match target {
                Target::File(fd) => rustix::fs::flistxattr(fd, room),
                Target::Path(path) => rustix::fs::llistxattr(*path, room),
                Target::Pinned(path) => rustix::fs::listxattr(*path, room),
            })
        })?;
        let shown = |name: &&[u8]| {
            !name.starts_with(ACL)
                && !is_own(OsStr::from_bytes(name))
                && (caller.is_root() || !name.starts_with(TRUSTED))
        };
        let names = names.split_inclusive(|&byte| byte == 0).filter(shown);
        Ok(names.flatten().copied().collect())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn removexattr(&self, inode: Inode, name: &OsStr) -> Result<(), FsError> {
        refuse(name)?;
        self.on_target(inode, |target| match target {
            Target::File(fd) => rustix::fs::fremovexattr(fd, name),
            Target::Path(path) => rustix::fs::lremovexattr(*path, name),
            Target::Pinned(path) => rustix::fs::removexattr(*path, name),
        })
    }

    fn on_target<T>(
        &self,
        inode: Inode,
        call: impl FnOnce(&Target<'_>) -> rustix::io::Result<T>,
    ) -> Result<T, FsError> {
        if let Some(file) = self.open.find(inode) {
            return Ok(call(&Target::File(file.backing().as_fd()))?);
        }
        let _tree = self.tree.read();
        let place = self.places.of(&self.nodes, inode)?;
        let path = place.proc_path();
        let target = if place.is_itself() { Target::Pinned(&path) } else { Target::Path(&path) };
        Ok(call(&target)?)
    }
}

/// An access control list would be kept and not enforced: better none. And the vault's own
/// attributes are not the mount's.
fn refuse(name: &OsStr) -> Result<(), FsError> {
    let refused = name.as_encoded_bytes().starts_with(ACL) || is_own(name);
    if refused { Err(FsError::Unsupported) } else { Ok(()) }
}

/// Calls with a small buffer, and with the largest there can be where that is too small.
fn with_room(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; 256];
    match call(&mut small) {
        Ok(len) => Ok(small[..len].to_vec()),
        Err(rustix::io::Errno::RANGE) => {
            let mut large = vec![0; LONGEST];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}
