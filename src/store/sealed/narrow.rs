//! Finding out which of the blocks that may be holes hold content.

use super::file::SealedFile;
use super::state::FileState;
use crate::format::{BLOCK_LEN, BlockIndex, BlockSpan};
use crate::store::{Backing, FileError};

/// Blocks of content that are looked through while the file is kept from others: 16 MiB.
const MAX_AT_ONCE: u64 = 4096;
/// Blocks that are read at once.
const BATCH: u64 = 64;

impl<B: Backing> SealedFile<B> {
    /// Before a header is written: looks through the blocks that may be holes, once for as long as
    /// the file is open, and not through more than [`MAX_AT_ONCE`] blocks of content.
    pub(super) fn narrow_once(&self, state: &mut FileState) {
        if state.narrowed || !state.gaps.is_uncertain() {
            return;
        }
        state.narrowed = true;
        let uncertain = state.gaps.uncertain();
        // What can't be read stays listed.
        if let Ok(None) = self.narrow(state, BlockIndex(0)) {
            state.gaps.resolve(uncertain);
        }
    }

    /// Looks through all blocks that may be holes, and lets others use the file in between.
    pub(super) fn narrow_all(&self) -> Result<(), FileError> {
        let uncertain = self.state().gaps.uncertain();
        let mut from = (uncertain > 0).then_some(BlockIndex(0));
        while let Some(first) = from {
            from = self.narrow(&mut self.state(), first)?;
        }
        self.state().gaps.resolve(uncertain);
        Ok(())
    }

    /// Takes blocks that hold content out of those that may be holes, from block `from` on.
    /// Returns where to go on. `state` is held, so that no block becomes a hole meanwhile.
    fn narrow(
        &self,
        state: &mut FileState,
        from: BlockIndex,
    ) -> Result<Option<BlockIndex>, FileError> {
        let end = state.end();
        let (mut content, mut left) = (Vec::new(), MAX_AT_ONCE);
        let mut next = None;
        'gaps: for gap in state.gaps.spans() {
            let mut first = gap.first.max(from);
            while let Some(data) = self.next_data_blocks(first, gap.end.min(end))? {
                let end = BlockIndex(data.end.0.min(data.first.0 + left));
                let span = BlockSpan { end, ..data };
                self.find_content(span, &mut content)?;
                left -= span.count();
                first = end;
                if left == 0 {
                    next = Some(end);
                    break 'gaps;
                }
            }
        }
        for span in content {
            // A write under way may have brought the block.
            state.note_filled(span);
        }
        Ok(next)
    }

    /// Counts the blocks with content in the hole extents of the header on disk: zeroed by an
    /// attacker who can write to the vault, they read as holes.
    pub(in crate::store) fn unguarded_blocks(&self) -> Result<u64, FileError> {
        let extents =
            self.state().header.open().map(|open| open.on_disk.fields.holes.extents.clone());
        let Some(extents) = extents else { return Ok(0) };
        let end = BlockSpan::of_len(self.len()).end;
        let mut content = Vec::new();
        for extent in extents.spans() {
            let mut first = extent.first;
            while let Some(span) = self.next_data_blocks(first, extent.end.min(end))? {
                self.find_content(span, &mut content)?;
                first = span.end;
            }
        }
        Ok(content.iter().map(|span| span.count()).sum())
    }

    /// The next blocks from `first` to before `end` that the backing file may have data in.
    fn next_data_blocks(
        &self,
        first: BlockIndex,
        end: BlockIndex,
    ) -> Result<Option<BlockSpan>, FileError> {
        if first >= end {
            return Ok(None);
        }
        let Some(data) = self.backing.next_data(first.stored())? else { return Ok(None) };
        let data = BlockIndex(data / BLOCK_LEN as u64);
        if data >= end {
            return Ok(None);
        }
        let hole = self.backing.next_hole(data.stored())?;
        let hole = hole.map_or(end.0, |hole| hole.div_ceil(BLOCK_LEN as u64));
        Ok(Some(BlockSpan { first: data, end: BlockIndex(hole.clamp(data.0 + 1, end.0)) }))
    }

    /// Adds to `content` the blocks of `span` that are not zero.
    fn find_content(&self, span: BlockSpan, content: &mut Vec<BlockSpan>) -> Result<(), FileError> {
        let mut blocks = vec![0; (span.count().min(BATCH) * BLOCK_LEN as u64) as usize];
        let mut first = span.first;
        while first < span.end {
            let end = BlockIndex(span.end.0.min(first.0 + BATCH));
            let batch = BlockSpan { first, end };
            let blocks = &mut blocks[..batch.count() as usize * BLOCK_LEN];
            let read = self.backing.read_at(blocks, first.stored())?;
            for (index, block) in batch.iter().zip(blocks[..read].chunks(BLOCK_LEN)) {
                if block.iter().all(|&byte| byte == 0) {
                    continue;
                }
                match content.last_mut() {
                    Some(last) if last.end == index => last.end = index.next(),
                    _ => content.push(BlockSpan::one(index)),
                }
            }
            first = end;
        }
        Ok(())
    }
}
