//! Extended attributes.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::fs::namespace::directory_keys::is_own;
use crate::fs::{Fs, FsError, Inode, Subject};

/// The longest list or value that Linux has (limits.h: XATTR_LIST_MAX, XATTR_SIZE_MAX).
const MAX_LEN: usize = 65536;

/// How the names of access control lists begin (xattr(7)).
const ACL: &[u8] = b"system.posix_acl_";

/// How the names begin that only root may see (xattr(7)).
const TRUSTED: &[u8] = b"trusted.";

/// A program's capabilities (capabilities(7)).
const CAPABILITY: &str = "security.capability";

/// The same in the vault: the kernel below takes [`CAPABILITY`] away at each write of the daemon,
/// though the content may be older, or a header. When it is to go, the mount's kernel removes it.
/// None but root of the machine can make such a name, as is so of [`CAPABILITY`].
const STORED_CAPABILITY: &str = "trusted.atrest.capability";

/// What an attribute is reached through: there are no calls with a directory descriptor.
enum Target<'a> {
    File(BorrowedFd<'a>),
    /// Of a descriptor in /proc, which leads to the inode itself.
    Path(&'a Path),
}

impl Fs {
    /// Sets an attribute; `flags` may require that it be new, or exist.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of setxattr(2).
    pub fn setxattr(
        &self,
        inode: Inode,
        name: &OsStr,
        value: &[u8],
        flags: XattrFlags,
    ) -> Result<(), FsError> {
        refuse(name)?;
        self.on_target(inode, |target| {
            if name == CAPABILITY {
                target.set_capability(value, flags)
            } else {
                target.set(name, value, flags)
            }
        })
    }

    /// An attribute's value.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of getxattr(2): ENODATA where there is none of the name.
    pub fn getxattr(&self, inode: Inode, name: &OsStr) -> Result<Vec<u8>, FsError> {
        refuse(name)?;
        self.on_target(inode, |target| {
            if name == CAPABILITY { target.capability() } else { target.get(name) }
        })
    }

    /// The names of all attributes that the caller may know of, each ended by a zero byte.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of listxattr(2).
    pub fn listxattr(&self, inode: Inode, subject: &Subject) -> Result<Vec<u8>, FsError> {
        let stored = self.on_target(inode, |target| target.list())?;
        let names = || stored.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        let shown = |name: &&[u8]| {
            !name.starts_with(ACL)
                && !is_own(OsStr::from_bytes(name))
                && (subject.is_root() || !name.starts_with(TRUSTED))
        };
        let capability = names().any(|name| name == STORED_CAPABILITY.as_bytes())
            && names().all(|name| name != CAPABILITY.as_bytes());
        let capability = capability.then_some(CAPABILITY.as_bytes());
        let shown = names().filter(shown).chain(capability);
        Ok(shown.flat_map(|name| name.iter().copied().chain([0])).collect())
    }

    /// Removes an attribute.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of removexattr(2).
    pub fn removexattr(&self, inode: Inode, name: &OsStr) -> Result<(), FsError> {
        refuse(name)?;
        self.on_target(inode, |target| {
            if name == CAPABILITY { target.remove_capability() } else { target.remove(name) }
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
        let (at_path, _held) = self.locked_inode(inode)?;
        Ok(call(&Target::Path(&at_path.proc_path()))?)
    }
}

impl Target<'_> {
    fn set(
        &self,
        name: impl AsRef<OsStr>,
        value: &[u8],
        flags: XattrFlags,
    ) -> rustix::io::Result<()> {
        match self {
            Self::File(fd) => rustix::fs::fsetxattr(fd, name.as_ref(), value, flags),
            Self::Path(path) => rustix::fs::setxattr(*path, name.as_ref(), value, flags),
        }
    }

    fn get(&self, name: impl AsRef<OsStr>) -> rustix::io::Result<Vec<u8>> {
        with_room(|room| match self {
            Self::File(fd) => rustix::fs::fgetxattr(fd, name.as_ref(), room),
            Self::Path(path) => rustix::fs::getxattr(*path, name.as_ref(), room),
        })
    }

    fn remove(&self, name: impl AsRef<OsStr>) -> rustix::io::Result<()> {
        match self {
            Self::File(fd) => rustix::fs::fremovexattr(fd, name.as_ref()),
            Self::Path(path) => rustix::fs::removexattr(*path, name.as_ref()),
        }
    }

    fn list(&self) -> rustix::io::Result<Vec<u8>> {
        with_room(|room| match self {
            Self::File(fd) => rustix::fs::flistxattr(fd, room),
            Self::Path(path) => rustix::fs::listxattr(*path, room),
        })
    }

    fn capability(&self) -> rustix::io::Result<Vec<u8>> {
        // The kernel asks at each write of a program, and most files have no attribute at all.
        if self.list().is_ok_and(|names| names.is_empty()) {
            return Err(Errno::NODATA);
        }
        match self.get(STORED_CAPABILITY) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => self.get(CAPABILITY),
            stored => stored,
        }
    }

    fn set_capability(&self, value: &[u8], flags: XattrFlags) -> rustix::io::Result<()> {
        if !flags.is_empty() {
            match self.capability() {
                Ok(_) if flags.contains(XattrFlags::CREATE) => return Err(Errno::EXIST),
                Err(error) if flags.contains(XattrFlags::REPLACE) => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        match self.set(STORED_CAPABILITY, value, XattrFlags::empty()) {
            // In a user namespace, or where the filesystem has no such names.
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                return self.set(CAPABILITY, value, XattrFlags::empty());
            }
            set => set?,
        }
        unless_missing(self.remove(CAPABILITY)).map(drop)
    }

    fn remove_capability(&self) -> rustix::io::Result<()> {
        let stored = unless_missing(self.remove(STORED_CAPABILITY))?;
        let plain = unless_missing(self.remove(CAPABILITY))?;
        if stored || plain { Ok(()) } else { Err(Errno::NODATA) }
    }
}

/// Whether there was something to remove.
fn unless_missing(removed: rustix::io::Result<()>) -> rustix::io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
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
        Err(Errno::RANGE) => {
            let mut large = vec![0; MAX_LEN];
            let len = call(&mut large)?;
            large.truncate(len);
            Ok(large)
        }
        Err(errno) => Err(errno),
    }
}
