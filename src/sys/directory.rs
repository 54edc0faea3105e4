//! Making changes of a directory durable.

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, fsync, open};

/// Makes the names in `directory` durable (fsync(2)).
///
/// # Errors
/// Those of open(2) and fsync(2).
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(fsync(open(directory, flags, Mode::empty())?)?)
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
