//! A directory of a test's own, removed at its end.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// What a scratch directory lies on. They differ: tmpfs has no ZERO_RANGE and loses nothing to a
/// missing fsync; a disk has both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    Disk,
    Tmpfs,
}

impl Backing {
    /// What `ATREST_TEST_BACKING` says, else the disk.
    pub fn from_env() -> Backing {
        match env::var("ATREST_TEST_BACKING").as_deref() {
            Ok("tmpfs") => Backing::Tmpfs,
            Ok("disk") | Err(_) => Backing::Disk,
            Ok(other) => panic!("ATREST_TEST_BACKING is {other:?}; it is disk or tmpfs"),
        }
    }

    fn place(self) -> PathBuf {
        let (variable, default) = match self {
            Backing::Disk => ("ATREST_TEST_DISK", "/var/tmp"),
            Backing::Tmpfs => ("ATREST_TEST_TMPFS", "/dev/shm"),
        };
        env::var_os(variable).map_or_else(|| PathBuf::from(default), PathBuf::from)
    }
}

/// A unique directory that every user may enter and only its owner may write.
pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    pub fn new() -> Scratch {
        Scratch::on(Backing::from_env())
    }

    pub fn on(backing: Backing) -> Scratch {
        let place = backing.place();
        let dir = tempfile::Builder::new()
            .prefix("atrest-test.")
            .permissions(Permissions::from_mode(0o755))
            .tempdir_in(&place)
            .unwrap_or_else(|e| panic!("no scratch directory in {}: {e}", place.display()));
        Scratch { dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path().join(name)
    }

    /// Makes a directory in it and returns its path.
    pub fn make_dir(&self, name: &str) -> PathBuf {
        let path = self.join(name);
        fs::create_dir(&path).unwrap_or_else(|e| panic!("mkdir {}: {e}", path.display()));
        path
    }

    /// Makes a directory in it whose owner is `uid`, for programs that run as that user.
    pub fn make_dir_for(&self, name: &str, uid: u32, gid: u32) -> PathBuf {
        let path = self.make_dir(name);
        std::os::unix::fs::chown(&path, Some(uid), Some(gid))
            .unwrap_or_else(|e| panic!("chown {}: {e}", path.display()));
        path
    }
}
