//! The backing file, and whether it was changed since it was last made durable.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Backing, SyncScope};

/// A backing file that notes each change once it was made: a sync that began before the change
/// returned may have missed it.
pub(super) struct Tracked<B> {
    file: B,
    unsynced: AtomicBool,
}

impl<B> Tracked<B> {
    pub(super) fn new(file: B) -> Self {
        Self { file, unsynced: AtomicBool::new(false) }
    }

    pub(super) fn get(&self) -> &B {
        &self.file
    }

    pub(super) fn into_inner(self) -> B {
        self.file
    }

    /// Whether a change may not be durable.
    pub(super) fn is_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Acquire)
    }

    /// Notes a change that was made elsewhere, or a sync that failed.
    pub(super) fn mark_unsynced(&self) {
        self.unsynced.store(true, Ordering::Release);
    }

    /// A sync begins that covers all changes that were noted.
    pub(super) fn begin_sync(&self) {
        self.unsynced.swap(false, Ordering::AcqRel);
    }

    fn changed<T>(&self, done: T) -> T {
        self.mark_unsynced();
        done
    }
}

impl<B: Backing> Backing for Tracked<B> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.changed(self.file.write_at(buf, offset))
    }

    fn write_preserving_mtime(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.changed(self.file.write_preserving_mtime(buf, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.changed(self.file.set_len(len))
    }

    fn sync(&self, scope: SyncScope) -> io::Result<()> {
        self.file.sync(scope)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.changed(self.file.punch(offset, len))
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.changed(self.file.allocate(offset, len))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        self.file.next_hole(offset)
    }
}
