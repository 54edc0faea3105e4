//! Files that were written and closed, and that nobody has made durable: what the end of a mount
//! waits for, instead of all that other programs have written to the same filesystem.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use parking_lot::Mutex;

use super::Inode;
use super::descriptors::is_spare;
use super::open_file::OpenFile;
use crate::store::FileError;

/// Files kept at most, each with a descriptor. Where there are more, a sync of the whole filesystem
/// costs less than one of each.
const MOST: usize = 256;

/// The files of a mount that are not durable.
#[derive(Debug, Default)]
pub struct Unsynced(Mutex<Kept>);

/// Some of them, or all.
#[derive(Debug, Default)]
pub struct Kept {
    files: HashMap<Inode, OwnedFd>,
    /// There were more than are kept.
    more: bool,
}

impl Unsynced {
    /// Keeps a file that was just closed, if it was written since it was last synced.
    pub fn keep(&self, inode: Inode, file: Arc<OpenFile>) {
        if !file.is_unsynced() || self.0.lock().more || file.is_nameless() {
            return;
        }
        let fd = match Arc::try_unwrap(file) {
            Ok(file) => Some(file.into_fd()),
            // Somebody looks at it still.
            Err(file) => file.backing().as_fd().try_clone_to_owned().ok(),
        };
        let mut kept = self.0.lock();
        match fd.filter(|fd| kept.files.len() < MOST && is_spare(fd)) {
            Some(fd) => {
                kept.files.insert(inode, fd);
            }
            None => *kept = Kept { files: HashMap::new(), more: true },
        }
    }

    /// Closes all that are kept.
    pub fn give_up(&self) {
        let mut kept = self.0.lock();
        if !kept.files.is_empty() {
            *kept = Kept { files: HashMap::new(), more: true };
        }
    }

    /// A file whose last name is gone need not become durable.
    pub fn forget(&self, inode: Inode) -> Option<OwnedFd> {
        self.0.lock().files.remove(&inode)
    }

    /// All that are kept.
    pub fn take(&self) -> Kept {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Kept {
    /// Whether there were no more.
    pub fn is_all(&self) -> bool {
        !self.more
    }

    /// Makes each durable; returns those of which that failed.
    pub fn sync(&self) -> Vec<(Inode, FileError)> {
        let sync = |fd: &OwnedFd| rustix::fs::fsync(fd).map_err(io::Error::from);
        let failed = self.files.iter().filter_map(|(inode, fd)| Some((*inode, sync(fd).err()?)));
        failed.map(|(inode, error)| (inode, error.into())).collect()
    }
}
