//! Opening the file in the vault.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::fs::FsError;
use crate::fs::namespace::at_path::AtPath;
use crate::store::{FileError, RealFile};
use crate::sys;

/// Opens so that reading moves no time of access, where that is allowed: for the file's owner, and
/// with CAP_FOWNER.
pub fn open_quietly(at_path: &AtPath, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    match at_path.open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => at_path.open(flags),
        opened => opened,
    }
}

/// Opens a file of the daemon's own user whose mode does not let its owner read or write it,
/// which the kernel has checked and the mount needs: a write-only file must be read back.
pub fn open_despite_mode(at_path: &AtPath, flags: OFlags) -> Result<RealFile, FsError> {
    // By a descriptor: the name may lead to another file by the next call.
    let at_path = &AtPath::itself(Arc::new(at_path.open(OFlags::PATH)?));
    let stat = at_path.stat()?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(FsError::Stale);
    }
    let mode = Mode::from_raw_mode(stat.st_mode);
    at_path.chmod(mode | Mode::RUSR | Mode::WUSR).map_err(|_| Errno::ACCESS)?;
    let opened = open_quietly(at_path, flags);
    at_path.chmod(mode)?;
    Ok(RealFile::new(opened?, flags.contains(OFlags::RDWR)))
}

/// The length of a file that is not open, and whose size alone does not determine it.
///
/// # Errors
/// [`FileError::Io`] of openat(2); [`FileError::Integrity`] for a header that is not authentic.
pub fn length_in_last_block(at_path: &AtPath, size: u64) -> Result<u64, FileError> {
    let fd = open_quietly(at_path, OFlags::RDONLY | OFlags::NONBLOCK).map_err(io::Error::from)?;
    crate::store::plain_len(&RealFile::new(fd, false), size)
}

/// A writable descriptor of a file that is open for reading.
///
/// # Errors
/// [`FsError::Backing`] with the error of open(2).
pub fn reopen_writable(file: &RealFile) -> Result<OwnedFd, FsError> {
    let open = || sys::reopen(file, OFlags::RDWR);
    match open() {
        Err(Errno::ACCESS) => {
            let mode = Mode::from_raw_mode(rustix::fs::fstat(file)?.st_mode);
            rustix::fs::fchmod(file, mode | Mode::RUSR | Mode::WUSR)?;
            let opened = open();
            rustix::fs::fchmod(file, mode)?;
            Ok(opened?)
        }
        opened => Ok(opened?),
    }
}
