//! The errno of each error.

use fuser::Errno;

use crate::fs::FsError;
use crate::store::FileError;

/// The errno of an error.
pub fn errno(error: &FsError) -> Errno {
    match error {
        FsError::NotFound => Errno::ENOENT,
        FsError::Stale => Errno::ESTALE,
        FsError::Reserved => Errno::EPERM,
        FsError::Unsupported => Errno::EOPNOTSUPP,
        FsError::Invalid => Errno::EINVAL,
        FsError::PastEnd => Errno::ENXIO,
        FsError::ForgedAssignment(_) => Errno::EIO,
        FsError::Denied { .. } => Errno::EACCES,
        FsError::Key(_) | FsError::Trail(_) => Errno::from_i32(libc::ENOKEY),
        FsError::Backing(errno) => Errno::from_i32(errno.raw_os_error()),
        FsError::File { error, .. } => match error {
            FileError::Io(error) => error.raw_os_error().map_or(Errno::EIO, Errno::from_i32),
            FileError::Integrity(_) => Errno::EIO,
            // As fscrypt does for a file without its key.
            FileError::Key(_) => Errno::from_i32(libc::ENOKEY),
            FileError::TooLong => Errno::EFBIG,
        },
    }
}
