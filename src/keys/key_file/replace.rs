//! Replacing a file so that an interruption at any point leaves the old one or the new one.
//!
//! | step | on disk after it |
//! |---|---|
//! | remove what an interrupted run left | old, previous |
//! | write and fsync `.new` | old, previous, new beside them |
//! | keep: write and fsync `.prev.new`, rename it to `.prev` | old twice, new beside |
//! | forget: remove `.prev`, fsync the directory | old, new beside |
//! | rename `.new` over the file, fsync the directory | new |
//! | forget: overwrite what was removed | new, the old nowhere |
//!
//! Overwriting is as good as the filesystem below: one that writes elsewhere, and a flash disk,
//! keep old blocks until they are reused.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};

use super::read::MAX_LEN;
use crate::sys::{self, Links, NotRegular};

/// What becomes of the state that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Old<'a> {
    /// There is none: a file that is there stays, and the call fails.
    None,
    /// It is kept as `.prev`.
    Keep(&'a [u8]),
    /// It holds what has to go: neither it nor the `.prev` before it stays.
    Forget,
}

/// The calls that a replacement is made of, so that a test can stop between any two.
pub(super) trait Disk {
    /// Creates a file with mode 0600 that must not exist, writes and fsyncs it.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames over whatever is there.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames, failing when something is there.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file; that it is not there is no error.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Fsyncs a directory.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Holds a file open to be wiped when it has no name any more; none where there is no regular one.
    fn hold(&self, path: &Path) -> io::Result<Option<File>>;
    /// Overwrites a file that has no name any more with zeros.
    fn wipe(&self, file: &File) -> io::Result<()>;
}

/// Puts `bytes` at `path`, as a whole or not at all.
///
/// # Errors
/// The step that failed. The old file is in place then, unless it was the last fsync.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8], old: Old) -> io::Result<()> {
    let (new, prev, prev_new) =
        (beside(path, ".new"), beside(path, ".prev"), beside(path, ".prev.new"));
    let directory = parent(path);
    let mut held = Vec::new();
    take_away(disk, &new, &mut held)?;
    take_away(disk, &prev_new, &mut held)?;

    let mut steps = || {
        disk.write_new(&new, bytes)?;
        match old {
            Old::None => disk.rename_new(&new, path)?,
            Old::Keep(old) => {
                disk.write_new(&prev_new, old)?;
                disk.rename(&prev_new, &prev)?;
                disk.rename(&new, path)?;
            }
            Old::Forget => {
                take_away(disk, &prev, &mut held)?;
                disk.sync_dir(&directory)?;
                held.extend(disk.hold(path)?);
                disk.rename(&new, path)?;
            }
        }
        disk.sync_dir(&directory)
    };
    let result = steps();
    match result {
        // The new state is in place: that an old one could not be overwritten does not undo it.
        Ok(()) => held.iter().for_each(|file| drop(disk.wipe(file))),
        Err(_) => [&new, &prev_new].into_iter().for_each(|path| drop(disk.remove(path))),
    }
    result
}

/// Removes the file at `path` and holds it to be wiped.
fn take_away(disk: &dyn Disk, path: &Path, held: &mut Vec<File>) -> io::Result<()> {
    held.extend(disk.hold(path)?);
    disk.remove(path)
}

/// `path` with `suffix` after its last component.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// The directory that `path` is in.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The filesystem itself.
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        // A link fails where something is, on every filesystem that has links.
        match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            Err(_) if fs::symlink_metadata(to).is_ok() => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        sys::sync_directory(path)
    }

    fn hold(&self, path: &Path) -> io::Result<Option<File>> {
        match sys::open_regular(CWD, path, OFlags::WRONLY, Links::Refuse) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if NotRegular::is(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wipe(&self, file: &File) -> io::Result<()> {
        let found = file.metadata()?;
        // Longer than any key file, it is somebody else's.
        if found.nlink() > 0 || !found.is_file() || found.len() > MAX_LEN {
            return Ok(());
        }
        let zeros = vec![0; found.len() as usize];
        file.write_all_at(&zeros, 0)?;
        file.sync_all()
    }
}
