//! Small questions about files, each as one call that panics with the file's name.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Opened for reading and writing, made when missing, never cut.
#[track_caller]
pub fn open_rw(path: impl AsRef<Path>) -> File {
    let path = path.as_ref();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .unwrap_or_else(|e| panic!("open {}: {e}", path.display()))
}

/// Writes a file that its owner alone may read.
#[track_caller]
pub fn write_secret(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    let path = path.as_ref();
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = file.and_then(|file| file.write_all_at(content.as_ref(), 0));
    written.unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
}

/// Opened for reading and writing with flags of open(2) beside.
#[track_caller]
pub fn open_with(path: impl AsRef<Path>, flags: i32) -> File {
    let path = path.as_ref();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(flags)
        .open(path)
        .unwrap_or_else(|e| panic!("open {} with {flags:#o}: {e}", path.display()))
}

/// close(2) with its result, which a drop would swallow.
pub fn close(file: File) -> io::Result<()> {
    // SAFETY: the descriptor was taken out of its owner and is closed once.
    match unsafe { libc::close(file.into_raw_fd()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `len` bytes at `offset`, or as many as there are.
#[track_caller]
pub fn read_at(file: &File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut done = 0;
    while done < len {
        match file.read_at(&mut bytes[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) => panic!("read {len} at {offset}: {e}"),
        }
    }
    bytes.truncate(done);
    bytes
}

/// Fails and names the first byte that differs, instead of printing both.
#[track_caller]
pub fn assert_same(found: &[u8], expected: &[u8], what: &str) {
    if found == expected {
        return;
    }
    let at = found
        .iter()
        .zip(expected)
        .position(|(a, b)| a != b)
        .unwrap_or(found.len().min(expected.len()));
    let near = |bytes: &[u8]| bytes[at.min(bytes.len())..(at + 16).min(bytes.len())].to_vec();
    panic!(
        "{what}: differs at byte {at}: found {:?} of {}, expected {:?} of {}",
        near(found),
        found.len(),
        near(expected),
        expected.len()
    );
}

/// Modification time in nanoseconds since the epoch.
#[track_caller]
pub fn mtime_ns(path: impl AsRef<Path>) -> i128 {
    let meta = lstat(path);
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// Change time in nanoseconds since the epoch.
#[track_caller]
pub fn ctime_ns(path: impl AsRef<Path>) -> i128 {
    let meta = lstat(path);
    i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec())
}

/// Permission bits, set-id and sticky among them.
#[track_caller]
pub fn mode(path: impl AsRef<Path>) -> u32 {
    lstat(path).mode() & 0o7777
}

/// Owner and group.
#[track_caller]
pub fn owner(path: impl AsRef<Path>) -> (u32, u32) {
    let meta = lstat(path);
    (meta.uid(), meta.gid())
}

#[track_caller]
pub fn lstat(path: impl AsRef<Path>) -> fs::Metadata {
    let path = path.as_ref();
    fs::symlink_metadata(path).unwrap_or_else(|e| panic!("lstat {}: {e}", path.display()))
}

/// The errno of a call that must fail.
#[track_caller]
pub fn errno<T>(result: io::Result<T>) -> i32 {
    match result {
        Ok(_) => panic!("should have failed"),
        Err(e) => e.raw_os_error().unwrap_or_else(|| panic!("no errno: {e}")),
    }
}
