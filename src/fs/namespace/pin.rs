//! Holds on inodes without a known name.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::pending_frees::PendingFree;
use crate::fs::ops::open_files::open_file::OpenFile;

/// A hold on an inode without a known name: by it the inode is reached, and its number names
/// nothing else until the kernel forgets it. Were the number given away, the kernel would fail
/// what is under way on the old file.
#[derive(Clone)]
pub enum Pin {
    /// An `O_PATH` descriptor.
    Path(Arc<OwnedFd>),
    /// The same of a file whose space is waited for. It is closed before that is noted.
    Large(Arc<OwnedFd>, #[expect(dead_code, reason = "it is held")] Arc<PendingFree>),
    /// The descriptor of the file that was open when the name went.
    File(Arc<OpenFile>),
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Path(_) | Self::Large(..) => "an O_PATH descriptor",
            Self::File(_) => "an open file",
        })
    }
}

impl Pin {
    /// A descriptor of the inode.
    ///
    /// # Errors
    /// EMFILE.
    pub fn descriptor(self) -> std::io::Result<Arc<OwnedFd>> {
        match self {
            Self::Path(fd) | Self::Large(fd, _) => Ok(fd),
            Self::File(file) => Ok(Arc::new(file.backing().as_fd().try_clone_to_owned()?)),
        }
    }
}
