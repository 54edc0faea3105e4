//! Files that were written and closed without an fsync(2). The end of a mount syncs these, instead
//! of all that other programs have written to the same filesystem.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::open_file::OpenFile;
use crate::fs::Inode;
use crate::fs::descriptors::is_outside_reserve;
use crate::store::FileError;

/// Files kept at most, each with a descriptor. Where there are more, a sync of the whole filesystem
/// costs less than one of each.
const MAX_FILES: usize = 256;

/// The files of a mount that are not durable.
#[derive(Debug, Default)]
pub struct Unsynced {
    kept: Mutex<UnsyncedFiles>,
    /// Whether any file may be kept. Changed under the lock, and read at each open without it.
    has_some: AtomicBool,
}

/// Some of them, or all.
#[derive(Debug, Default)]
pub struct UnsyncedFiles {
    files: HashMap<Inode, OwnedFd>,
    /// There were more than are kept.
    more: bool,
}

impl Unsynced {
    /// Keeps a file that is about to be closed, if it was written since it was last synced. Returns
    /// what to close instead, without any lock.
    #[must_use]
    pub fn keep(&self, inode: Inode, file: &OpenFile) -> UnsyncedFiles {
        if !file.is_unsynced() || self.kept.lock().more || file.is_nameless() {
            return UnsyncedFiles::default();
        }
        let fd =
            file.backing().as_fd().try_clone_to_owned().ok().filter(|fd| is_outside_reserve(fd));
        let mut kept = self.kept.lock();
        match fd.filter(|_| kept.files.len() < MAX_FILES) {
            Some(fd) => {
                kept.files.insert(inode, fd);
                self.has_some.store(true, Ordering::Release);
                UnsyncedFiles::default()
            }
            None => {
                std::mem::replace(&mut kept, UnsyncedFiles { files: HashMap::new(), more: true })
            }
        }
    }

    /// Closes all that are kept.
    pub fn clear(&self) {
        let mut kept = self.kept.lock();
        if !kept.files.is_empty() {
            let closed =
                std::mem::replace(&mut *kept, UnsyncedFiles { files: HashMap::new(), more: true });
            drop(kept);
            drop(closed);
        }
    }

    /// A file that is open again, or whose last name is gone, is not kept any more. To be called after
    /// a look into the table of open files: the table's lock orders it after [`Unsynced::keep`].
    pub fn forget(&self, inode: Inode) -> Option<OwnedFd> {
        if !self.has_some.load(Ordering::Acquire) {
            return None;
        }
        let mut kept = self.kept.lock();
        let forgotten = kept.files.remove(&inode);
        self.has_some.store(!kept.files.is_empty(), Ordering::Release);
        forgotten
    }

    /// All that are kept.
    pub fn take(&self) -> UnsyncedFiles {
        let mut kept = self.kept.lock();
        self.has_some.store(false, Ordering::Release);
        std::mem::take(&mut *kept)
    }
}

impl UnsyncedFiles {
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

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use crate::fs::Inode;
    use crate::fs::tests::new_fs;

    #[test]
    fn a_file_that_is_closed_at_the_end_is_found_all_the_same() {
        let (vault, fs) = new_fs();
        let files = &fs.open;
        let path = vault.path().join("file");
        let fd = std::fs::File::create(path).unwrap();
        let stat = rustix::fs::fstat(&fd).unwrap();
        for round in 0..10_000 {
            let fd = fd.try_clone().unwrap().into();
            files.adopt(Inode(9), fd, &stat).unwrap().mark_unsynced();
            let barrier = Barrier::new(2);
            let (open, kept) = thread::scope(|scope| {
                let closed = scope.spawn(|| {
                    barrier.wait();
                    files.release(Inode(9)).unwrap();
                });
                barrier.wait();
                let left = files.left();
                closed.join().unwrap();
                left
            });
            assert!(
                open.len() == 1 || kept.files.contains_key(&Inode(9)),
                "missed in round {round}"
            );
            files.left();
        }
    }
}
