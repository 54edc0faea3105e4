//! Space without content: reserving, punching and finding it.

use std::ops::Range;

use super::file::SealedFile;
use super::length::check_len;
use super::state::FileState;
use crate::format::{BLOCK_LEN, BlockIndex, BlockSpan, NEXT_CAPACITY};
use crate::store::{Backing, FileError};

impl<B: Backing> SealedFile<B> {
    /// Reserves space for `len` bytes from `offset`; with `extend` the file becomes long enough
    /// to hold them.
    ///
    /// # Errors
    /// [`FileError`]: the length is then what it was.
    pub fn allocate(&self, offset: u64, len: u64, extend: bool) -> Result<(), FileError> {
        let end = offset.checked_add(len).ok_or(FileError::TooLong)?;
        check_len(end)?;
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        let mut state = self.state();
        self.load(&mut state, None)?;
        let span = BlockSpan::covering(offset, len);
        self.backing.allocate(span.first.stored(), span.count() * BLOCK_LEN as u64)?;
        if extend && end > state.len {
            self.reset_headerless(&mut state)?;
            self.mark_changed(&mut state);
            self.extend(&mut state, end)?;
        }
        Ok(())
    }

    /// Makes `len` bytes from `offset` read as zeros and gives back the space of whole blocks;
    /// the length stays.
    ///
    /// # Errors
    /// [`FileError`]: the content is then what it was, but where a part of the work can't be taken
    /// back.
    pub fn punch(&self, offset: u64, len: u64) -> Result<(), FileError> {
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        let mut state = self.state();
        self.load(&mut state, None)?;
        let end = offset.saturating_add(len).min(state.len);
        if offset >= end || !state.has_keys() {
            return Ok(());
        }
        let span = BlockSpan::covering(offset, end - offset);
        let whole = whole_blocks(span, offset, end, state.len);
        self.tail.lock().take();
        self.mark_changed(&mut state);
        if whole.count() > 0 {
            self.permit_zeros(&mut state, whole)
                .inspect_err(|_| state.gaps.mark_uncertain(whole))?;
        }
        let mut zeroed = Vec::new();
        let punched = self.zero(&mut state, offset..end, span, whole, &mut zeroed);
        if punched.is_err() {
            for (index, before) in &mut zeroed {
                // What can't be put back reads as zeros.
                let _ = self.write_block(&mut state, *index, before);
            }
            state.gaps.mark_uncertain(whole);
        }
        punched
    }

    /// Zeroes what `range` covers of `span`, of which the blocks of `whole` go altogether; notes
    /// in `zeroed` what the others were.
    fn zero(
        &self,
        state: &mut FileState,
        range: Range<u64>,
        span: BlockSpan,
        whole: BlockSpan,
        zeroed: &mut Vec<(BlockIndex, [u8; BLOCK_LEN])>,
    ) -> Result<(), FileError> {
        for index in span.iter().filter(|&index| index < whole.first || index >= whole.end) {
            let before = self.zero_in_block(state, index, &range)?;
            zeroed.extend(before.map(|before| (index, before)));
        }
        if whole.count() > 0 {
            self.backing.punch(whole.first.stored(), whole.count() * BLOCK_LEN as u64)?;
        }
        Ok(())
    }

    /// Zeroes what `range` covers of one block. Returns the block as it was, if it held any.
    fn zero_in_block(
        &self,
        state: &mut FileState,
        index: BlockIndex,
        range: &Range<u64>,
    ) -> Result<Option<[u8; BLOCK_LEN]>, FileError> {
        let mut block = [0; BLOCK_LEN];
        let mut plain = [0; NEXT_CAPACITY];
        let Some(held) = self.open_one(state, index, &mut block, &mut plain)? else {
            return Ok(None);
        };
        let before = block;
        let from = (range.start.max(index.start()) - index.start()) as usize;
        let to = ((range.end.min(index.end()) - index.start()) as usize).min(held);
        let Some(zeroed) = plain.get_mut(from..to) else { return Ok(None) };
        zeroed.fill(0);
        let Some(open) = state.header.open() else { return Ok(None) };
        open.keys.seal(index, &plain[..held], &mut block);
        self.write_block(state, index, &mut block)?;
        Ok(Some(before))
    }

    /// Whether `len` bytes from `offset` can be written without more space in the vault.
    pub fn has_space(&self, offset: u64, len: u64) -> bool {
        let span = BlockSpan::covering(offset, len);
        let hole = self.backing.next_hole(span.first.stored());
        hole.is_ok_and(|hole| hole.is_some_and(|hole| hole >= span.end.stored()))
    }

    /// The first byte from `offset` on that is, or may be, content; `None` where only hole
    /// follows. Bytes a block holds count as content even when they are zeros.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn next_data(&self, offset: u64) -> Result<Option<u64>, FileError> {
        let len = self.len();
        if offset >= len {
            return Ok(None);
        }
        let found = self.backing.next_data(BlockIndex::of(offset).stored())?;
        Ok(found.map(|at| plain_offset(at, offset)).filter(|&at| at < len))
    }

    /// The first byte from `offset` on that is in a hole; the file's end counts as one. `None`
    /// where `offset` is not below the end.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn next_hole(&self, offset: u64) -> Result<Option<u64>, FileError> {
        let len = self.len();
        if offset >= len {
            return Ok(None);
        }
        let found = self.backing.next_hole(BlockIndex::of(offset).stored())?;
        Ok(Some(found.map_or(len, |at| plain_offset(at, offset).min(len))))
    }
}

/// Of `span`, the blocks all of whose content `offset..end` covers, but for block 0, which holds
/// the header.
fn whole_blocks(span: BlockSpan, offset: u64, end: u64, len: u64) -> BlockSpan {
    let from_start = span.first != BlockIndex(0) && offset == span.first.start();
    let last = BlockIndex(span.end.0 - 1);
    let to_end = end == last.end().min(len);
    let first = if from_start { span.first } else { span.first.next() };
    let end = if to_end { span.end } else { last };
    BlockSpan { first, end: end.max(first) }
}

/// The plaintext offset of what lies at `stored` in the backing file, not before `from`.
fn plain_offset(stored: u64, from: u64) -> u64 {
    BlockIndex(stored / BLOCK_LEN as u64).start().max(from)
}
