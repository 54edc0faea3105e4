//! The number of blocks that the kernel was last given of an open file.
//!
//! With the writeback cache the kernel requests the number of blocks of a file again only after a
//! close, so a new file would have none for as long as its writer keeps it open. Programs that copy
//! sparse files (`tar -S`, `cp --sparse`) take none for a file of zeros.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::format::BLOCK_LEN;

/// Bytes that a unit of st_blocks stands for (stat(2)).
const BLOCK_UNIT: u64 = 512;

/// What a file that may have content in the kernel's cache has at least: its first block.
const MIN_BLOCKS: u64 = BLOCK_LEN as u64 / BLOCK_UNIT;

/// Growth below this is left to the next close, so that a file of ordinary size costs no
/// notification. In bytes.
const MIN_GROWTH: u64 = 1024 * 1024;

/// The number that the kernel was given last, and the bytes written since.
#[derive(Debug)]
pub struct ReportedBlocks {
    /// In units of 512 bytes.
    reported: AtomicU64,
    /// Bytes written out of the kernel's cache since.
    written: AtomicU64,
    /// A program has the file open for writing.
    writers: AtomicBool,
}

impl ReportedBlocks {
    /// For a file that was just opened and has so many blocks. The kernel has the number of an
    /// earlier stat.
    pub fn new(blocks: u64) -> Self {
        Self {
            reported: AtomicU64::new(blocks),
            written: AtomicU64::new(0),
            writers: AtomicBool::new(false),
        }
    }

    /// A program has opened the file for writing.
    pub fn expect_writes(&self) {
        self.writers.store(true, Ordering::Relaxed);
    }

    /// The number to show of a file that has so many blocks: not 0 while the kernel may hold
    /// content of it.
    pub fn shown(&self, blocks: u64) -> u64 {
        if self.writers.load(Ordering::Relaxed) { blocks.max(MIN_BLOCKS) } else { blocks }
    }

    /// [`ReportedBlocks::shown`], which the kernel takes over.
    pub fn report(&self, blocks: u64) -> u64 {
        let shown = self.shown(blocks);
        self.reported.store(shown, Ordering::Relaxed);
        self.written.store(0, Ordering::Relaxed);
        shown
    }

    /// Notes a write of so many bytes. Returns whether the kernel must request the number again:
    /// once for each doubling of a file that grows. `blocks` reads the file's number, and is called
    /// as rarely.
    pub fn outgrown(&self, bytes: u64, blocks: impl FnOnce() -> rustix::io::Result<u64>) -> bool {
        let written = self.written.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let reported = self.reported.load(Ordering::Relaxed);
        if reported != 0 && written <= MIN_GROWTH.max(reported * BLOCK_UNIT) {
            return false;
        }
        self.written.store(0, Ordering::Relaxed);
        let Ok(blocks) = blocks() else { return false };
        // Less than double: the last blocks of a file are shared by several writes.
        let outgrown = blocks > reported + reported / 2;
        if outgrown {
            self.reported.store(blocks, Ordering::Relaxed);
        }
        outgrown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_writers_never_has_none() {
        let blocks = ReportedBlocks::new(0);
        assert_eq!(blocks.report(0), 0);
        blocks.expect_writes();
        assert_eq!(blocks.report(0), MIN_BLOCKS);
        assert_eq!(blocks.report(100), 100);
    }

    #[test]
    fn the_kernel_asks_again_once_a_doubling() {
        let blocks = ReportedBlocks::new(0);
        let (mut size, mut times) = (0, 0);
        for _ in 0..1024 {
            size += MIN_GROWTH;
            times += u32::from(blocks.outgrown(MIN_GROWTH, || Ok(size / BLOCK_UNIT)));
        }
        assert!((8..=12).contains(&times), "{times}");
    }

    #[test]
    fn a_small_new_file_costs_nothing() {
        let blocks = ReportedBlocks::new(0);
        blocks.expect_writes();
        blocks.report(0);
        assert!((0..16).all(|_| !blocks.outgrown(4096, || panic!("asked about"))));
    }
}
