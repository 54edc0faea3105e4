//! Where a daemon's socket lies: known from the vault's directory and the daemon's user alone.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The socket's path, and the user who must own it.
#[derive(Debug, Clone)]
pub struct Place {
    path: PathBuf,
    user: u32,
}

impl Place {
    /// The place for the daemon that a user runs for a vault: in `/run/atrest` for root, in the
    /// user's own directory in `/run/user` for others, or in `/tmp` where there is none.
    ///
    /// # Errors
    /// Those of stat(2) on the vault's directory.
    pub fn of(vault: &Path, user: u32) -> io::Result<Self> {
        let metadata = fs::metadata(vault)?;
        let name = format!("{:x}-{:x}.sock", metadata.dev(), metadata.ino());
        Ok(Self::at(directory(user).join(name), user))
    }

    /// A place of the caller's choice.
    pub fn at(path: PathBuf, user: u32) -> Self {
        Self { path, user }
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon's user.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// Makes the directory, unless it is there and nobody but the user may write it.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let directory = self.path.parent().unwrap_or(Path::new("/"));
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done?,
        }
        // In /tmp anybody can make the directory first.
        let metadata = fs::symlink_metadata(directory)?;
        let is_ours = metadata.is_dir() && metadata.uid() == self.user;
        if !is_ours || metadata.mode() & 0o077 != 0 {
            let sentence = format!("{} is open to others or belongs to them", directory.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, sentence));
        }
        Ok(())
    }
}

fn directory(user: u32) -> PathBuf {
    if user == 0 {
        return "/run/atrest".into();
    }
    let own = PathBuf::from(format!("/run/user/{user}"));
    if own.is_dir() { own.join("atrest") } else { format!("/tmp/atrest-{user}").into() }
}
