//! Where a request is worked on: on the session's thread that took it, or on one of a pool.

use std::sync::Arc;

use rustix::fs::fstatfs;

use super::connection::{Connection, RequestGuard, Settings};
use super::lost_writes::LostWrites;
use super::writers::Writers;
use crate::fs::Fs;

/// Answers the kernel out of a file system.
#[derive(Debug)]
pub struct Adapter {
    pub(super) fs: Arc<Fs>,
    pub(super) connection: Arc<Connection>,
    pub(super) settings: Settings,
    pub(super) writers: Arc<Writers>,
    pub(super) lost_writes: LostWrites,
    /// The vault is on no disk.
    pub(super) in_memory: bool,
}

impl Adapter {
    /// Answers out of `fs`, counting in `connection`.
    pub fn new(fs: Arc<Fs>, connection: Arc<Connection>, settings: Settings) -> Self {
        let in_memory = is_in_memory(&fs);
        let lost_writes = LostWrites::default();
        Self { fs, connection, settings, writers: Arc::default(), lost_writes, in_memory }
    }

    /// Runs `work`, which may wait for a disk: here, unless other requests would have to wait then.
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

/// `f_type` of filesystems that are nowhere but in memory (statfs(2)).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Whether what is written to the vault needs no disk.
fn is_in_memory(fs: &Fs) -> bool {
    fstatfs(fs.vault()).is_ok_and(|is| IN_MEMORY.contains(&(is.f_type as u64 & 0xffff_ffff)))
}
