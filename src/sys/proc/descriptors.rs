//! /proc/self/fd: what an open descriptor refers to.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

/// A path that leads to what a descriptor is open on, for calls that take no descriptor. It holds as long
/// as the descriptor is open, and crosses no symbolic link but itself.
pub fn descriptor_path(descriptor: impl AsFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())
}

/// Opens what a descriptor is open on once more, with O_CLOEXEC and other `flags`. O_PATH is enough for the
/// descriptor.
///
/// # Errors
/// Those of open(2), which checks the permissions again.
pub fn reopen(descriptor: impl AsFd, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(descriptor_path(descriptor), flags | OFlags::CLOEXEC, Mode::empty())
}

/// The path of what a descriptor is open on, also after a rename; ` (deleted)` follows the name of a file
/// that was removed.
///
/// # Errors
/// Those of readlink(2).
pub fn link_target(descriptor: impl AsFd) -> io::Result<PathBuf> {
    fs::read_link(descriptor_path(descriptor))
}

/// The path of an open directory, also after a rename; `None` where it was removed.
pub fn path_of(directory: impl AsFd) -> Option<PathBuf> {
    link_target(directory).ok().filter(|path| path.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_found_after_its_rename() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let (old, new) = (root.join("old"), root.join("new"));
        fs::create_dir(&old).unwrap();
        let open = fs::File::open(&old).unwrap();
        assert_eq!(path_of(&open), Some(old.clone()));
        fs::rename(&old, &new).unwrap();
        assert_eq!(path_of(&open), Some(new.clone()));
        fs::remove_dir(&new).unwrap();
        assert_eq!(path_of(&open), None);
    }
}
