//! The master keys that directories were given, as far as they were looked up.

use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::fs::Inode;
use crate::store::KeyChoice;

/// Keys of directories, as far as they were looked up. Empty after a change of any.
#[derive(Debug, Default)]
pub struct Assignments {
    known: DashMap<Inode, KeyChoice>,
    /// How often what a directory has, or what lies above it, has changed. Counted last: a thread
    /// that sees the number sees the change.
    changes: AtomicU64,
}

impl Assignments {
    /// After a directory was given a key, or moved. The caller holds `Fs::ancestry` alone.
    pub fn clear(&self) {
        self.known.clear();
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// After a directory was removed, whose number another may get. The caller holds
    /// `Fs::ancestry` alone.
    pub fn remove(&self, dir: Inode) {
        self.known.remove(&dir);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The kernel has forgotten a directory, which keeps its key.
    pub fn forget(&self, dir: Inode) {
        self.known.remove(&dir);
    }

    /// Remembers the key of several directories.
    pub fn remember(&self, dirs: Vec<Inode>, key: KeyChoice) {
        dirs.into_iter().for_each(|dir| _ = self.known.insert(dir, key));
    }

    /// How many changes there were. A key that was looked up between two equal numbers is still so.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The key of a directory, if it was looked up.
    pub fn get(&self, dir: Inode) -> Option<KeyChoice> {
        self.known.get(&dir).map(|key| *key)
    }
}

/// Whether an attribute is one of atrest's own, which the mount neither shows nor lets be set.
pub fn is_own(attribute: &OsStr) -> bool {
    let attribute = attribute.as_encoded_bytes();
    attribute.starts_with(b"user.atrest.") || attribute.starts_with(b"trusted.atrest.")
}
