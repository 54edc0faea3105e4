//! The adapter, and where a request is answered: by the session's thread that took it, or by a pool.

use std::sync::Arc;

use rustix::fs::fstatfs;

use super::connection::{Connection, RequestGuard, Settings};
use super::lost_writes::LostWrites;
use super::writers::Writers;
use crate::fs::Fs;

/// Answers the kernel's requests from a file system.
#[derive(Debug)]
pub struct Adapter {
    pub(super) fs: Arc<Fs>,
    pub(super) connection: Arc<Connection>,
    pub(super) settings: Settings,
    pub(super) writers: Arc<Writers>,
    pub(super) lost_writes: LostWrites,
    /// The vault is on no disk: its filesystem is in memory.
    pub(super) in_memory: bool,
}

impl Adapter {
    /// Answers from `fs`, and counts in `connection`.
    pub fn new(fs: Arc<Fs>, connection: Arc<Connection>, settings: Settings) -> Self {
        let in_memory = is_in_memory(&fs);
        let lost_writes = LostWrites::default();
        Self { fs, connection, settings, writers: Arc::default(), lost_writes, in_memory }
    }

    /// Runs `work`, which may wait for a disk: on this thread, unless too few others are left.
    pub(super) fn run(&self, guard: &RequestGuard<'_>, work: impl FnOnce(&Fs) + Send + 'static) {
        if guard.should_spill() {
            let fs = Arc::clone(&self.fs);
            self.connection.spill.submit(move || work(&fs));
        } else {
            work(&self.fs);
        }
    }

    /// Runs `work`, which waits for a disk or for other requests, on a thread of the pool.
    pub(super) fn hand_on(&self, work: impl FnOnce(&Fs) + Send + 'static) {
        let fs = Arc::clone(&self.fs);
        self.connection.slow.submit(move || work(&fs));
    }
}

/// `f_type` of filesystems in memory: tmpfs and ramfs (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether the vault's filesystem is in memory.
fn is_in_memory(fs: &Fs) -> bool {
    fstatfs(fs.vault()).is_ok_and(|is| IN_MEMORY.contains(&(is.f_type as u64 & 0xffff_ffff)))
}
