//! The descriptors that the kernel has open, by number.
//!
//! Each open gets a number, and the later open the larger one, so that a failure can be reported to
//! every descriptor that was open then. A strict mount also keeps the subject of each open.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;

use super::open_mode::OpenMode;
use crate::fs::{Inode, Subject};

/// An open file as the kernel names it: a serial number, above two bits that say what the kernel
/// does not repeat with each request. 0 where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Handle(pub u64);

impl Handle {
    const WRITES: u64 = 1;
    const BY_ROOT: u64 = 2;
    const BITS: u32 = 2;

    /// Root's, without an open file.
    pub(in crate::fs) const ROOT: Self = Self(Self::BY_ROOT);

    fn new(number: u64, mode: OpenMode, subject: &Subject) -> Self {
        let writes = if mode.write { Self::WRITES } else { 0 };
        let by_root = if subject.is_root() { Self::BY_ROOT } else { 0 };
        Self(number << Self::BITS | writes | by_root)
    }

    /// Whether it was opened for writing.
    pub fn writes(self) -> bool {
        self.0 & Self::WRITES != 0
    }

    /// Whether root opened it.
    pub fn by_root(self) -> bool {
        self.0 & Self::BY_ROOT != 0
    }
}

/// The open files of a mount.
#[derive(Debug, Default)]
pub struct Handles {
    pub strict: AtomicBool,
    last: AtomicU64,
    /// Of a strict mount alone.
    pub openers: DashMap<Handle, Opener>,
}

#[derive(Debug, Clone)]
pub struct Opener {
    pub inode: Inode,
    pub mode: OpenMode,
    /// With the groups that the process had when it opened the file.
    pub subject: Subject,
}

impl Handles {
    /// A handle for a file that was opened.
    pub fn open(&self, inode: Inode, mode: OpenMode, subject: &Subject) -> Handle {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let handle = Handle::new(number, mode, subject);
        if self.strict.load(Ordering::Relaxed) {
            let subject = subject.clone().with_groups();
            self.openers.insert(handle, Opener { inode, mode, subject });
        }
        handle
    }

    /// Not below any handle there is, and below every later one.
    pub fn newest(&self) -> Handle {
        let last = self.last.load(Ordering::Relaxed);
        Handle(last << Handle::BITS | Handle::WRITES | Handle::BY_ROOT)
    }

    pub fn opener(&self, handle: Handle) -> Option<Opener> {
        let strict = self.strict.load(Ordering::Relaxed);
        strict.then(|| self.openers.get(&handle).map(|opener| opener.clone())).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_handle_is_below_every_later_one() {
        let handles = Handles::default();
        let root = Subject::process(0, 0, 1);
        let user = Subject::process(1000, 0, 1);
        let last = Handle::new(7, OpenMode::READ_WRITE, &root);
        let next = Handle::new(8, OpenMode::READ, &user);
        handles.last.store(7, Ordering::Relaxed);
        assert!(last <= handles.newest());
        assert!(next > handles.newest());
    }
}
