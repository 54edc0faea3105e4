//! Opening directories, and making their changes durable.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fsync};
use rustix::path::Arg;

/// Opens the directory `path` to read it. Symbolic links are followed.
///
/// # Errors
/// Those of open(2).
pub fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

/// Opens the directory `name` below `dir`, and no symbolic link. `access` is O_RDONLY to read it, and
/// O_PATH to reach what is in it.
///
/// # Errors
/// Those of openat(2).
pub fn open_directory_at(
    dir: impl AsFd,
    name: impl Arg,
    access: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = access | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

/// Makes the names in `directory` durable (fsync(2)).
///
/// # Errors
/// Those of open(2) and fsync(2).
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    Ok(fsync(open_directory(directory)?)?)
}

/// Makes the name `path` durable by its directory, unless that is one that this user can't read, or
/// of a filesystem that syncs none.
///
/// # Errors
/// Those of fsync(2).
pub fn sync_name(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match sync_directory(parent.unwrap_or(Path::new("."))) {
        Err(error) if is_not_to_be_had(&error) => Ok(()),
        synced => synced,
    }
}

fn is_not_to_be_had(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    matches!(error.kind(), PermissionDenied | InvalidInput | Unsupported)
}
