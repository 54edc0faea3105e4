//! Checking every block of one file.

use super::{Backing, FileError, SealedFile};
use crate::format::{BlockIndex, BlockSpan};

/// Blocks that are checked with one backing read: about 1 MiB.
const BATCH: u64 = 256;

/// The size of what was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Blocks of 4096 bytes in the vault.
    pub blocks: u64,
    /// Plaintext bytes.
    pub bytes: u64,
}

/// What checking a file found.
#[derive(Debug, Default)]
pub struct FileReport {
    /// The size of what was checked.
    pub extent: Extent,
    /// The errors found, by their offset in the file.
    pub damage: Vec<FileError>,
    /// The header's mount crashed, so length and holes are not authenticated. Reads succeed all the same.
    pub left_by_crash: bool,
    /// Blocks with content that the header lists among those that may be holes.
    pub unguarded_blocks: u64,
}

impl<B: Backing> SealedFile<B> {
    /// Opens every block. Other users of the file go on meanwhile.
    pub fn verify(&self) -> FileReport {
        let mut report = FileReport::default();
        match self.left_by_crash() {
            Ok(left) => report.left_by_crash = left,
            Err(error) => {
                report.damage.push(error);
                return report;
            }
        }
        let end = BlockSpan::of_len(self.len()).end;
        let mut first = BlockIndex(0);
        while first < end {
            let batch = BlockSpan { first, end: BlockIndex(end.0.min(first.0 + BATCH)) };
            if self.check(batch).is_err() {
                let damage = batch.iter().filter_map(|one| self.check(BlockSpan::one(one)).err());
                report.damage.extend(damage);
            }
            first = batch.end;
        }
        match self.unguarded_blocks() {
            Ok(blocks) => report.unguarded_blocks = blocks,
            Err(error) => report.damage.push(error),
        }
        report.extent = Extent { blocks: end.0, bytes: self.len() };
        report
    }

    fn check(&self, span: BlockSpan) -> Result<(), FileError> {
        let len = (span.end.start() - span.first.start()) as usize;
        self.read_with(span.first.start(), len, |_| ())
    }
}
