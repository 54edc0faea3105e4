//! The times of an open file that the kernel keeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, MutexGuard};

use super::change_times::ChangeTime;

/// With the writeback cache the kernel keeps the times of modification and change. It sets them by
/// and by, or not at all where a write found them as they should be; what it writes back later
/// must not move them.
#[derive(Debug)]
pub struct CachedTimes {
    /// The modification time that the kernel last set, or found when it began to write back.
    pub mtime: Option<SystemTime>,
    /// Whether the kernel's cache was written from since.
    pub passed: bool,
    /// The time of change that the kernel last set, or was given before the file was opened.
    pub ctime: ChangeTime,
    /// Whether anything moved the backing file's time of change since it was last noted.
    pub moved: bool,
}

/// The times, and whether a write-back has nothing to add to them.
#[derive(Debug)]
pub struct Times {
    pub cached: Mutex<CachedTimes>,
    /// Whether a write-back was noted since the lock was last taken for anything else. Where a
    /// write-back still finds it set after its write, the next holder of the lock comes after that
    /// write.
    pub has_write_back: AtomicBool,
}

impl Times {
    pub fn lock(&self) -> MutexGuard<'_, CachedTimes> {
        let cached = self.cached.lock();
        self.has_write_back.store(false, Ordering::SeqCst);
        cached
    }

    pub fn try_lock(&self) -> Option<MutexGuard<'_, CachedTimes>> {
        let cached = self.cached.try_lock()?;
        self.has_write_back.store(false, Ordering::SeqCst);
        Some(cached)
    }

    pub fn has_write_back(&self) -> bool {
        self.has_write_back.load(Ordering::SeqCst)
    }
}
