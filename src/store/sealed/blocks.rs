//! Reading and writing blocks. The caller holds their range.

use std::io;

use super::file::SealedFile;
use super::header::BlockKeys;
use super::state::FileState;
use super::tracked::Tracked;
use crate::format::{BLOCK_LEN, BlockContent, BlockIndex, BlockSpan, NEXT_CAPACITY};
use crate::store::{Backing, FileError, IntegrityError};

impl<B: Backing> SealedFile<B> {
    /// Reads whole blocks below the file's length, as they are.
    pub(super) fn read_sealed(&self, span: BlockSpan, sealed: &mut [u8]) -> Result<(), FileError> {
        if self.backing.read_at(sealed, span.first.stored())? < sealed.len() {
            return Err(IntegrityError::Vanished.into());
        }
        Ok(())
    }

    /// Opens blocks into `plain`, one behind the other.
    pub(super) fn open_blocks(
        &self,
        keys: &BlockKeys,
        span: BlockSpan,
        sealed: &[u8],
        plain: &mut [u8],
    ) -> Result<(), FileError> {
        let base = span.first.start();
        for (index, block) in span.iter().zip(sealed.chunks_exact(BLOCK_LEN)) {
            let at = (index.start() - base) as usize;
            let content = keys.open(index, block, &mut plain[at..at + index.capacity()])?;
            if content == BlockContent::Hole && !self.state().may_be_hole(index) {
                return Err(IntegrityError::Zeroed(index.0).into());
            }
        }
        Ok(())
    }

    /// Opens one block into `plain` and says how many bytes it holds; `None` for a legal hole.
    pub(super) fn open_one(
        &self,
        state: &FileState,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
        plain: &mut [u8; NEXT_CAPACITY],
    ) -> Result<Option<usize>, FileError> {
        let Some(open) = state.header.open() else { return Ok(None) };
        self.read_sealed(BlockSpan::one(index), block)?;
        match open.keys.open(index, block, plain)? {
            BlockContent::Data(held) => Ok(Some(held)),
            BlockContent::Hole if state.may_be_hole(index) => Ok(None),
            BlockContent::Hole => Err(IntegrityError::Zeroed(index.0).into()),
        }
    }

    /// Writes one sealed block, with the header where it is block 0.
    pub(super) fn write_block(
        &self,
        state: &mut FileState,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<(), FileError> {
        self.write_block_by(Backing::write_at, state, index, block)
    }

    /// [`SealedFile::write_block`] that leaves the file's times alone.
    pub(super) fn write_block_preserving_mtime(
        &self,
        state: &mut FileState,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<(), FileError> {
        self.write_block_by(Backing::write_preserving_mtime, state, index, block)
    }

    fn write_block_by(
        &self,
        write: impl FnOnce(&Tracked<B>, &[u8], u64) -> io::Result<()>,
        state: &mut FileState,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<(), FileError> {
        let newer = state.stamp(index, block, &self.context);
        let written = write(&self.backing, block, index.stored());
        state.end_write(written, BlockSpan::one(index), newer)
    }
}
