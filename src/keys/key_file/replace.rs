//! Atomic replacement of a file: an interruption at any point leaves the old file or the new one.
//!
//! | step | on disk after it |
//! |---|---|
//! | remove the files of an interrupted run | old, previous |
//! | write and fsync `.new` | old, previous, new beside them |
//! | keep: write and fsync `.prev.new`, rename it to `.prev` | old twice, new beside |
//! | forget: remove `.prev`, fsync the directory | old, new beside |
//! | rename `.new` over the file, fsync the directory | new |
//! | forget: overwrite what was removed | new, the old nowhere |
//!
//! Overwriting depends on the filesystem below: copy-on-write filesystems and flash disks keep old
//! blocks until they are reused.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags};

use super::read::MAX_LEN;
use crate::sys::{self, Links, NotRegular};

/// The treatment of the file that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Old<'a> {
    /// There must be none: the call fails where a file exists.
    None,
    /// It is kept as `.prev`.
    Keep(&'a [u8]),
    /// It holds secrets that were removed: it is overwritten, and so is the `.prev` before it.
    Forget,
}

/// The calls of a replacement, so that a test can stop between any two.
pub(super) trait Disk {
    /// Creates a file with mode 0600, writes and fsyncs it. Fails where one exists.
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Renames, replacing an existing file.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames. Fails where the new name exists.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file, if there is one.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Fsyncs a directory.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a regular file, to be wiped after it is unlinked; `None` where there is none.
    fn open_for_wipe(&self, path: &Path) -> io::Result<Option<File>>;
    /// Overwrites an unlinked file with zeros.
    fn wipe(&self, file: &File) -> io::Result<()>;
}

/// Replaces the file at `path` by `bytes`.
///
/// # Errors
/// Those of the step that failed. The old file is in place then, unless it was the last fsync.
pub(super) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8], old: Old) -> io::Result<()> {
    let (new, prev, prev_new) =
        (beside(path, ".new"), beside(path, ".prev"), beside(path, ".prev.new"));
    let directory = parent(path);
    let mut unlinked = Vec::new();
    unlink(disk, &new, &mut unlinked)?;
    unlink(disk, &prev_new, &mut unlinked)?;

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
                unlink(disk, &prev, &mut unlinked)?;
                disk.sync_dir(&directory)?;
                unlinked.extend(disk.open_for_wipe(path)?);
                disk.rename(&new, path)?;
            }
        }
        disk.sync_dir(&directory)
    };
    let result = steps();
    match result {
        // The new file is in place: a failure to overwrite the old one is no failure of the call.
        Ok(()) => unlinked.iter().for_each(|file| drop(disk.wipe(file))),
        Err(_) => [&new, &prev_new].into_iter().for_each(|path| drop(disk.remove(path))),
    }
    result
}

/// Unlinks the file at `path` and adds it to those to be wiped.
fn unlink(disk: &dyn Disk, path: &Path, unlinked: &mut Vec<File>) -> io::Result<()> {
    unlinked.extend(disk.open_for_wipe(path)?);
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
        // link(2) fails where the name exists, on every filesystem with hard links.
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

    fn open_for_wipe(&self, path: &Path) -> io::Result<Option<File>> {
        match sys::open_regular(CWD, path, OFlags::WRONLY, Links::Refuse) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if NotRegular::is(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn wipe(&self, file: &File) -> io::Result<()> {
        let found = file.metadata()?;
        // A longer file is not a key file.
        if found.nlink() > 0 || !found.is_file() || found.len() > MAX_LEN {
            return Ok(());
        }
        let zeros = vec![0; found.len() as usize];
        file.write_all_at(&zeros, 0)?;
        file.sync_all()
    }
}
