//! Writing plaintext: whole blocks, sealed into one backing write.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::file::{SealedFile, Tail};
use super::first_key::log_longer;
use super::header::BlockKeys;
use super::length::check_len;
use super::state::{Event, FileState};
use crate::format::{BLOCK_LEN, BlockIndex, BlockSpan, NEXT_CAPACITY};
use crate::store::buffers::with_buffers;
use crate::store::{Backing, FileError};

/// The length after a failed write that made the file longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Undo,
    Keep,
}

/// The file as it was before a write.
struct Before {
    len: u64,
    keys: Arc<BlockKeys>,
    /// Whether the file had no key and this write gave it one.
    is_first_key: bool,
    /// Whether this write made the file longer.
    grew: bool,
}

impl<B: Backing> SealedFile<B> {
    /// Writes all of `data` at `offset`, making the file longer where it must be.
    ///
    /// # Errors
    /// [`FileError`]; the length is then what it was, or where another write ends that succeeded
    /// meanwhile, and blocks of the range hold old or new content, each whole.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), FileError> {
        self.write_or(offset, data, Failed::Undo, |write| write())
    }

    /// [`SealedFile::write`] for a cache that has the new length of the file already, which can't be
    /// taken back: a failure leaves that length, with holes in place of the data. `attempt` calls the
    /// function that writes the blocks, once or more; its result is that of the write.
    ///
    /// # Errors
    /// As [`SealedFile::write`], but for the length. A file that had no content has none then.
    pub fn write_back(
        &self,
        offset: u64,
        data: &[u8],
        attempt: impl FnOnce(&mut dyn FnMut() -> Result<(), FileError>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        self.write_or(offset, data, Failed::Keep, attempt)
    }

    fn write_or(
        &self,
        offset: u64,
        data: &[u8],
        failed: Failed,
        attempt: impl FnOnce(&mut dyn FnMut() -> Result<(), FileError>) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).ok_or(FileError::TooLong)?;
        check_len(end)?;
        let span = BlockSpan::covering(offset, data.len() as u64);
        // The first write of a file needs all blocks.
        let mut all = self.is_empty();
        let (held, before) = loop {
            let held = self.ranges.exclusive(if all { BlockSpan::ALL } else { span });
            match self.prepare(span, end, all)? {
                Some(before) => break (held, before),
                None => all = true,
            }
        };
        let written = with_buffers(|buffers| {
            let sealed = buffers.sealed.take(span.count() as usize * BLOCK_LEN);
            let edge = buffers.plain.take(NEXT_CAPACITY);
            self.seal_blocks(span, offset, data, &before, sealed, edge)?;
            attempt(&mut || self.write_blocks(span, offset..end, sealed))
        });
        match &written {
            Ok(()) => self.context.count_sealed(data.len() as u64),
            // All blocks are held still: no other thread has seen the key or the length.
            Err(_) if before.is_first_key => self.undo_first_key(&mut self.state()),
            Err(_) => {
                self.note_missing(&before, span);
                if failed == Failed::Keep {
                    self.state().note_lost(before.len, span, offset..end);
                } else {
                    // Another write may be under way that ends behind this one: where to cut is
                    // known when there is none.
                    drop(held);
                    let _alone = self.ranges.exclusive(BlockSpan::ALL);
                    self.undo_growth(&mut self.state());
                }
            }
        }
        if before.grew {
            self.growing.fetch_sub(1, Ordering::Relaxed);
        }
        written
    }

    /// Gives the file a key if it has none, and its new length. The size goes first: a crash
    /// then leaves zeros in bytes never fsynced, not a length that no program set. `None` where
    /// that takes all blocks to be held, and they are not: the file has no header yet, or its
    /// last block must be repaired before it can grow.
    fn prepare(&self, span: BlockSpan, end: u64, all: bool) -> Result<Option<Before>, FileError> {
        let mut state = self.state();
        self.load(&mut state, None)?;
        if !all && (!state.has_keys() || (state.stale_tail && end > state.len)) {
            return Ok(None);
        }
        self.reset_headerless(&mut state)?;
        let is_first_key = !state.has_keys();
        let len = state.len;
        let keys = self.ensure_key(&mut state)?;
        if end > len
            && let Err(error) = self.grow(&mut state, end, span.first)
        {
            if is_first_key {
                state.on(Event::Emptied);
            }
            return Err(error);
        }
        self.mark_changed(&mut state);
        if is_first_key
            && span.first != BlockIndex(0)
            && let Err(error) = self.write_first_block(&mut state)
        {
            self.undo_first_key(&mut state);
            return Err(error);
        }
        let grew = end > len;
        if grew {
            self.growing.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(Before { len, keys, is_first_key, grew }))
    }

    /// Writes sealed blocks, with the header where they begin with block 0. The caller holds
    /// their range.
    fn write_blocks(
        &self,
        span: BlockSpan,
        range: Range<u64>,
        sealed: &mut [u8],
    ) -> Result<(), FileError> {
        // No other block has a header in front of it, for which the lock would be taken.
        let first = span.first == BlockIndex(0);
        let newer = first.then(|| self.state().stamp(span.first, sealed, &self.context)).flatten();
        let written = self.backing.write_at(sealed, span.first.stored());
        let mut state = self.state();
        state.end_write(written, span, newer)?;
        state.note_sound(range);
        Ok(())
    }

    /// Seals `data` into `sealed`; the blocks at its two ends keep what it does not cover.
    fn seal_blocks(
        &self,
        span: BlockSpan,
        offset: u64,
        data: &[u8],
        before: &Before,
        sealed: &mut [u8],
        edge: &mut [u8],
    ) -> Result<(), FileError> {
        let end = offset + data.len() as u64;
        let mut cached = self.take_tail(span);
        let mut tail = None;
        for (index, block) in span.iter().zip(sealed.chunks_exact_mut(BLOCK_LEN)) {
            let (from, to) = (offset.max(index.start()), end.min(index.end()));
            let piece = &data[(from - offset) as usize..(to - offset) as usize];
            let inside = (from - index.start()) as usize..(to - index.start()) as usize;
            let old =
                before.len.saturating_sub(index.start()).min(index.capacity() as u64) as usize;
            if inside.start == 0 && inside.end >= old {
                before.keys.seal(index, piece, block);
                if to == end && inside.end < index.capacity() {
                    tail = Some((index, inside.end));
                    edge[..piece.len()].copy_from_slice(piece);
                }
                continue;
            }
            match cached.take_if(|tail| tail.index == index) {
                _ if old == 0 => edge.fill(0),
                Some(tail) => edge.copy_from_slice(&tail.plain[..]),
                None => {
                    let one = BlockSpan::one(index);
                    self.read_sealed(one, block)?;
                    self.open_blocks(&before.keys, one, block, edge)?;
                }
            }
            zero(edge, old..inside.start);
            edge[inside.clone()].copy_from_slice(piece);
            let fill = old.max(inside.end);
            before.keys.seal(index, &edge[..fill], block);
            if to == end && fill < index.capacity() {
                tail = Some((index, fill));
            }
        }
        if let Some((index, len)) = tail
            && end >= before.len
        {
            self.keep_tail(index, &edge[..len], cached);
        }
        Ok(())
    }

    fn take_tail(&self, span: BlockSpan) -> Option<Tail> {
        self.tail.lock().take_if(|tail| span.first <= tail.index && tail.index < span.end)
    }

    fn keep_tail(&self, index: BlockIndex, content: &[u8], reuse: Option<Tail>) {
        let mut plain = reuse.map_or_else(|| Box::new([0; NEXT_CAPACITY]), |tail| tail.plain);
        let (kept, rest) = plain.split_at_mut(content.len());
        kept.copy_from_slice(content);
        rest.fill(0);
        *self.tail.lock() = Some(Tail { index, plain });
    }

    /// Makes the file as long as [`SealedFile::written_len`] says.
    pub fn cut_to_written(&self) {
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        self.undo_growth(&mut self.state());
    }

    /// After a write that failed: any of the blocks that it was to add may be missing.
    fn note_missing(&self, before: &Before, span: BlockSpan) {
        let mut state = self.state();
        self.tail.lock().take();
        self.mark_changed(&mut state);
        let first = span.first.max(BlockSpan::of_len(before.len).end);
        // What was cut away meanwhile is no part of the file.
        let end = span.end.min(state.end());
        state.gaps.add_uncertain(BlockSpan { first: first.min(end), end });
        // In holes that were there some may have been written.
        state.gaps.mark_uncertain(BlockSpan { first: span.first, end: first.min(end) });
    }

    /// Takes back the length that only failed writes needed. The caller holds all blocks, so that
    /// no write is under way.
    fn undo_growth(&self, state: &mut FileState) {
        let len = state.sound_len();
        if len >= state.len || len == 0 {
            return;
        }
        // A header may have been written meanwhile that names the length before.
        self.mark_changed(state);
        // The last block may have been written with more than it is to hold again.
        state.stale_tail = true;
        if let Err(error) = self.cut_backing(state, len) {
            log_longer(&error);
        }
    }
}

/// Zeroes `range`, which may be empty or reversed.
fn zero(bytes: &mut [u8], range: Range<usize>) {
    if let Some(range) = bytes.get_mut(range) {
        range.fill(0);
    }
}
