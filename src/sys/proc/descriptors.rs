//! Where an open directory lies by now.

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// The path of an open directory, also after a rename (proc(5), `/proc/self/fd`); `None` where it has
/// none any more.
pub fn path_of(directory: impl AsFd) -> Option<PathBuf> {
    let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd())).ok()?;
    // What was removed has " (deleted)" behind its name.
    path.is_dir().then_some(path)
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
