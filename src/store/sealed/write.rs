//! Writing plaintext: whole blocks, sealed into one backing write.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use log::Level;

use super::permitted::Permitted;
use super::{BlockKeys, HeaderOnDisk, Meta, Open, Seal, SealedFile, Tail};
use crate::format::{BLOCK_LEN, BlockIndex, BlockSpan, HEADER_LEN, NEXT_CAPACITY, stored_len};
use crate::store::buffers::with_buffers;
use crate::store::{Backing, Context, FileError, log_failure};

/// What becomes of the length that a write gave the file and then could not fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Undo,
    Keep,
}

/// What a write needs to know of the file as it was before.
struct Before {
    len: u64,
    keys: Arc<BlockKeys>,
    /// Whether the file had no key and this write gave it one.
    first_life: bool,
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

    /// [`SealedFile::write`] for a cache that knows the file with its new length already, and would
    /// not be told of another one: a failure leaves that length, with holes where nothing could be
    /// written. `attempt` calls what writes the blocks, more than once if it likes; the result it
    /// returns is what counts.
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
        let mut all = false;
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
            // All blocks are held still: nobody has seen the key or the length.
            Err(_) if before.first_life => self.forget_first_life(&mut self.meta()),
            Err(_) => {
                self.note_missing(&before, span);
                if failed == Failed::Keep {
                    self.meta().note_lost(&before, span, offset..end);
                } else {
                    // Another write may be under way that ends behind this one: where to cut is
                    // known when there is none.
                    drop(held);
                    let _alone = self.ranges.exclusive(BlockSpan::ALL);
                    self.undo_growth(&mut self.meta());
                }
            }
        }
        if before.grew {
            self.growing.fetch_sub(1, Ordering::Relaxed);
        }
        written
    }

    /// Gives the file a key if it has none, and its new length. The size goes first: a crash
    /// then leaves zeros in bytes never fsynced, not a length that nobody asked for. `None` where
    /// that takes all blocks to be held, and they are not: the file has no header yet, or its
    /// last block must be mended before it can grow.
    fn prepare(&self, span: BlockSpan, end: u64, all: bool) -> Result<Option<Before>, FileError> {
        let mut meta = self.meta();
        self.load(&mut meta, None)?;
        if !all && (meta.keys().is_none() || (meta.stale_tail && end > meta.len)) {
            return Ok(None);
        }
        if matches!(meta.seal, Seal::Lost) {
            self.forget_lost(&mut meta)?;
        }
        let first_life = meta.keys().is_none();
        let len = meta.len;
        let keys = self.ensure_key(&mut meta)?;
        if end > len
            && let Err(error) = self.grow(&mut meta, end, span.first)
        {
            meta.forget_new_key(first_life);
            return Err(error);
        }
        self.touch(&mut meta);
        if first_life
            && span.first != BlockIndex(0)
            && let Err(error) = self.write_first_block(&mut meta)
        {
            self.forget_first_life(&mut meta);
            return Err(error);
        }
        let grew = end > len;
        if grew {
            self.growing.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(Before { len, keys, first_life, grew }))
    }

    /// The file's keys, made now if it has none.
    pub(super) fn ensure_key(&self, meta: &mut Meta) -> Result<Arc<BlockKeys>, FileError> {
        if let Some(keys) = meta.keys() {
            return Ok(keys);
        }
        let seen_enabled = self.context.ring_changes();
        let file = self.next_id();
        let (fields, keys) = self.context.new_file(file, meta.next_key.flatten())?;
        self.next_id.lock().take();
        let keys = Arc::new(BlockKeys { file: fields.file_id, keys });
        let header = HeaderOnDisk::new(fields, &keys, meta.gaps.version());
        meta.seal = Seal::Open(Box::new(Open { keys: Arc::clone(&keys), seen_enabled, header }));
        meta.stale_tail = false;
        meta.permitted = Permitted::anything();
        Ok(keys)
    }

    /// Writes block 0 with a header and no content. The caller holds it.
    pub(super) fn write_first_block(&self, meta: &mut Meta) -> Result<(), FileError> {
        let Some(keys) = meta.keys() else { return Ok(()) };
        let mut block = [0; BLOCK_LEN];
        keys.seal(BlockIndex(0), &[], &mut block);
        self.write_block(meta, BlockIndex(0), &mut block)
    }

    /// Writes one sealed block, with the header where it is block 0. The caller holds it.
    pub(super) fn write_block(
        &self,
        meta: &mut Meta,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<(), FileError> {
        let newer = meta.stamp(index, block, &self.context);
        let written = self.backing.write_at(block, index.stored());
        meta.note_written(written, BlockSpan::one(index), newer)
    }

    /// [`SealedFile::write_block`] that leaves the file's times alone.
    pub(super) fn write_block_unseen(
        &self,
        meta: &mut Meta,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<(), FileError> {
        let newer = meta.stamp(index, block, &self.context);
        let written = self.backing.write_unseen(block, index.stored());
        meta.note_written(written, BlockSpan::one(index), newer)
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
        let newer = first.then(|| self.meta().stamp(span.first, sealed, &self.context)).flatten();
        let written = self.backing.write_at(sealed, span.first.stored());
        let mut meta = self.meta();
        meta.note_written(written, span, newer)?;
        meta.note_sound(range);
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
                None => self.read_blocks(BlockSpan::one(index), block, edge)?,
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
        self.undo_growth(&mut self.meta());
    }

    /// After a write that failed: any of the blocks that it was to add may be missing.
    fn note_missing(&self, before: &Before, span: BlockSpan) {
        let mut meta = self.meta();
        self.tail.lock().take();
        self.touch(&mut meta);
        let first = span.first.max(BlockSpan::of_len(before.len).end);
        // What was cut away meanwhile is no part of the file.
        let end = span.end.min(meta.end());
        meta.gaps.add_uncertain(BlockSpan { first: first.min(end), end });
        // In holes that were there some may have been written.
        meta.gaps.doubt(BlockSpan { first: span.first, end: first.min(end) });
    }

    /// Takes back the length that only failed writes needed. The caller holds all blocks, so that
    /// no write is under way.
    fn undo_growth(&self, meta: &mut Meta) {
        let len = meta.sound_len();
        if len >= meta.len || len == 0 {
            return;
        }
        // A header may have been written meanwhile that names the length before.
        self.touch(meta);
        // The last block may have been written with more than it is to hold again.
        meta.stale_tail = true;
        if let Err(error) = self.cut_backing(meta, len) {
            log_longer(&error);
        }
    }

    /// Makes a file empty again that got its key for what then could not be written. The caller
    /// holds all blocks.
    pub(super) fn forget_first_life(&self, meta: &mut Meta) {
        self.tail.lock().take();
        match self.backing.set_len(0) {
            Ok(()) => *meta = meta.emptied(),
            Err(error) => {
                log_longer(&error);
                meta.seal = Seal::Lost;
                self.context.note_identity_change();
            }
        }
    }
}

impl Meta {
    /// Takes back a key that nothing was sealed with yet.
    pub(super) fn forget_new_key(&mut self, is_new: bool) {
        if is_new {
            *self = self.emptied();
        }
    }

    /// Notes that `range` was written.
    fn note_sound(&mut self, range: Range<u64>) {
        self.written = self.written.max(range.end);
        if self.lost_from.is_some_and(|lost| range.contains(&lost)) {
            self.lost_from = Some(range.end).filter(|&end| end < self.len);
        }
    }

    /// Notes that `range` in the blocks `span` could not be written. Blocks that were written before
    /// still have their content.
    fn note_lost(&mut self, before: &Before, span: BlockSpan, range: Range<u64>) {
        let grew = (range.end > before.len).then(|| range.start.max(before.len));
        let unwritten =
            |index: &BlockIndex| index.end() > self.durable && self.gaps.contains(*index);
        let gap = span.iter().find(unwritten);
        let filled = gap.map(|index| index.start().max(range.start));
        if let Some(lost) = grew.into_iter().chain(filled).min()
            && range.end > self.durable
        {
            let lost = lost.max(self.durable);
            self.lost_from = Some(self.lost_from.map_or(lost, |earlier| earlier.min(lost)));
        }
    }

    /// Puts the header at the front of block 0, and returns it if it is newer than the one on
    /// disk; does nothing for other blocks.
    fn stamp(
        &mut self,
        first: BlockIndex,
        blocks: &mut [u8],
        context: &Context,
    ) -> Option<HeaderOnDisk> {
        let Seal::Open(open) = &self.seal else { return None };
        if first != BlockIndex(0) {
            return None;
        }
        let newer = self.newer_header(context);
        let header = newer.as_ref().unwrap_or(&open.header);
        blocks[..HEADER_LEN].copy_from_slice(&header.bytes);
        if let Some(newer) = &newer {
            self.note_header_write(newer);
        }
        newer
    }

    fn note_written(
        &mut self,
        written: io::Result<()>,
        span: BlockSpan,
        newer: Option<HeaderOnDisk>,
    ) -> Result<(), FileError> {
        self.note_header(written.is_ok(), newer);
        written?;
        self.note_filled(span);
        Ok(())
    }
}

fn log_longer(error: &io::Error) {
    let line = format_args!("a failed write left the file longer than it was: {error}");
    log_failure(Level::Error, line);
}

/// Zeroes `range`, which may be empty or reversed.
fn zero(bytes: &mut [u8], range: Range<usize>) {
    if let Some(range) = bytes.get_mut(range) {
        range.fill(0);
    }
}

/// Whether a backing file can be as long as `len` plaintext bytes need.
pub(super) fn check_len(len: u64) -> Result<(), FileError> {
    let fits = len < i64::MAX as u64 / 2 && i64::try_from(stored_len(len)).is_ok();
    fits.then_some(()).ok_or(FileError::TooLong)
}
