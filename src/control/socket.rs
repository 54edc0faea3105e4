//! Where a daemon's socket lies: known from the vault's directory and the daemon's user alone.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::sys::{MountedVault, Show};

/// The socket's path, and the user who must own it.
#[derive(Debug, Clone)]
pub struct SocketPath {
    path: PathBuf,
    user: u32,
}

impl SocketPath {
    /// The place for the daemon that a user runs for a vault: in `/run/atrest` for root, in the
    /// user's own directory in `/run/user` for others, or in `/tmp` where there is none.
    ///
    /// # Errors
    /// Those of stat(2) on the vault's directory.
    pub fn of(vault: &Path, user: u32) -> io::Result<Self> {
        let metadata = fs::metadata(vault)?;
        let name = format!("{:x}-{:x}.sock", metadata.dev(), metadata.ino());
        Ok(Self::at(directory(user).join(name), user))
    }

    /// All places where daemons of a user listen, or have listened.
    pub fn all(user: u32) -> Vec<Self> {
        let entries = fs::read_dir(directory(user)).into_iter().flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        let sockets = paths.filter(|path| path.extension().is_some_and(|end| end == "sock"));
        sockets.map(|path| Self::at(path, user)).collect()
    }

    /// A place of the caller's choice.
    pub fn at(path: PathBuf, user: u32) -> Self {
        Self { path, user }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon's user.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// The socket's name in its directory.
    pub(super) fn name(&self) -> &OsStr {
        self.path.file_name().unwrap_or_default()
    }

    /// Makes the directory, unless it is there and nobody but the user may write it, and opens it.
    /// Others can reach a socket in it that is open to them, if it is to be `passable`.
    ///
    /// # Errors
    /// Those of making it; that it is open to others.
    pub fn prepare(&self, passable: bool) -> io::Result<OwnedFd> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
        let refusal = || {
            let message = format!("{} is open to others or belongs to them", directory.shown());
            io::Error::new(io::ErrorKind::PermissionDenied, message)
        };
        // A confined daemon may not list it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::open(directory, flags, Mode::empty()) {
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(refusal()),
            opened => opened?,
        };
        let found = rustix::fs::fstat(&opened)?;
        if !self.may_be(found.st_uid, found.st_mode) {
            return Err(refusal());
        }
        if passable {
            let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
            fs::set_permissions(link, Permissions::from_mode(0o711))?;
        }
        Ok(opened)
    }

    /// Takes away the socket of a daemon that died. One on which somebody listens stays.
    pub fn clear(&self) {
        let is_dead = || {
            let refused = UnixStream::connect(&self.path).err();
            refused.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if self.is_ours() && is_dead() {
            // What stays is in nobody's way: the next daemon replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Removes the socket that the dead daemon of a stale mount left.
    pub fn clear_stale(stale: &MountedVault) {
        // A vault that is gone has no socket's path any more, and is mounted by nobody.
        if let Ok(place) = Self::of(&stale.vault, stale.user_id) {
            place.clear();
        }
    }

    /// Whether the socket lies in a directory of the user's own.
    pub(super) fn is_ours(&self) -> bool {
        self.path.parent().is_some_and(|directory| self.owns(directory).unwrap_or(false))
    }

    /// Whether nobody but the user may list or write the directory: in /tmp anybody can make it
    /// first.
    fn owns(&self, directory: &Path) -> io::Result<bool> {
        let metadata = fs::symlink_metadata(directory)?;
        Ok(metadata.is_dir() && self.may_be(metadata.uid(), metadata.mode()))
    }

    fn may_be(&self, owner: u32, mode: u32) -> bool {
        owner == self.user && mode & 0o066 == 0
    }
}

fn directory(user: u32) -> PathBuf {
    if user == 0 {
        return "/run/atrest".into();
    }
    let own = PathBuf::from(format!("/run/user/{user}"));
    if own.is_dir() { own.join("atrest") } else { format!("/tmp/atrest-{user}").into() }
}
