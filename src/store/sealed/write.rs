//! Writing plaintext: whole blocks, sealed into one backing write.

use std::ops::Range;
use std::sync::Arc;

use super::{BlockKeys, HeaderOnDisk, Meta, Open, Seal, SealedFile, Tail};
use crate::format::{BLOCK_LEN, BlockIndex, BlockSpan, HEADER_LEN, NEXT_CAPACITY, stored_len};
use crate::store::buffers::with_buffers;
use crate::store::{Backing, Context, FileError};

/// What a write needs to know of the file as it was before.
struct Before {
    len: u64,
    keys: Arc<BlockKeys>,
    /// Whether the file had no key and this write gave it one.
    first_life: bool,
}

impl<B: Backing> SealedFile<B> {
    /// Writes all of `data` at `offset`, making the file longer where it must be.
    ///
    /// # Errors
    /// [`FileError`]; the length is then what it was, and blocks of the range hold old or new
    /// content, each whole.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), FileError> {
        if data.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(data.len() as u64).ok_or(FileError::TooLong)?;
        check_len(end)?;
        let span = BlockSpan::covering(offset, data.len() as u64);
        let mut all = false;
        let (_alone, before) = loop {
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
            self.write_blocks(span, sealed)
        });
        match written {
            Ok(()) => self.context.count_sealed(data.len() as u64),
            Err(_) => self.undo_growth(&before, end),
        }
        written
    }

    /// Gives the file a key if it has none, and its new length. The size goes first: a crash
    /// then leaves zeros in bytes never fsynced, not a length that nobody asked for. `None` where
    /// that takes all blocks to be held, and they are not: the file has no header yet, or its
    /// last block must be mended before it can grow.
    fn prepare(&self, span: BlockSpan, end: u64, all: bool) -> Result<Option<Before>, FileError> {
        let mut meta = self.meta.lock();
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
        meta.touched = true;
        let before = Before { len, keys, first_life };
        if first_life
            && span.first != BlockIndex(0)
            && let Err(error) = self.write_first_block(&mut meta)
        {
            drop(meta);
            self.undo_growth(&before, end);
            return Err(error);
        }
        Ok(Some(before))
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
        let header = HeaderOnDisk::new(fields, &keys);
        meta.seal = Seal::Open(Box::new(Open { keys: Arc::clone(&keys), seen_enabled, header }));
        meta.holes_from = u64::MAX;
        meta.stale_tail = false;
        meta.owned = true;
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
        self.backing.write_at(block, index.stored())?;
        meta.note_written(BlockSpan::one(index), newer);
        Ok(())
    }

    /// [`SealedFile::write_block`] that leaves the file's times alone.
    pub(super) fn write_block_unseen(
        &self,
        meta: &mut Meta,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<(), FileError> {
        let newer = meta.stamp(index, block, &self.context);
        self.backing.write_unseen(block, index.stored())?;
        meta.note_written(BlockSpan::one(index), newer);
        Ok(())
    }

    /// Writes sealed blocks, with the header where they begin with block 0. The caller holds
    /// their range.
    fn write_blocks(&self, span: BlockSpan, sealed: &mut [u8]) -> Result<(), FileError> {
        let newer = self.meta.lock().stamp(span.first, sealed, &self.context);
        self.backing.write_at(sealed, span.first.stored())?;
        self.meta.lock().note_written(span, newer);
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

    /// Takes back what [`SealedFile::prepare`] gave a write that then failed, unless another
    /// write has made the file longer still.
    fn undo_growth(&self, before: &Before, end: u64) {
        let mut meta = self.meta.lock();
        self.tail.lock().take();
        meta.touched = true;
        if end <= before.len {
            return;
        }
        // Any of the new blocks may be missing.
        let (old, new) = (BlockSpan::of_len(before.len), BlockSpan::of_len(end));
        meta.gaps.add(BlockSpan { first: old.end, end: new.end });
        if meta.len != end {
            return;
        }
        let cut = if before.first_life {
            self.backing.set_len(0)
        } else {
            // The last block may have been written with more than it is to hold again.
            meta.stale_tail = true;
            self.cut_backing(&mut meta, before.len)
        };
        match cut {
            Ok(()) if before.first_life => *meta = Meta::empty(),
            Ok(()) => {}
            Err(error) => {
                log::error!("a failed write left the file longer than it was: {error}");
                if before.first_life {
                    meta.seal = Seal::Lost;
                    self.context.note_identity_change();
                }
            }
        }
    }
}

impl Meta {
    /// Takes back a key that nothing was sealed with yet.
    pub(super) fn forget_new_key(&mut self, is_new: bool) {
        if is_new {
            *self = Self::empty();
        }
    }

    /// Puts the header at the front of block 0, and returns it if it is newer than the one on
    /// disk; does nothing for other blocks.
    fn stamp(
        &self,
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
        newer
    }

    fn note_written(&mut self, span: BlockSpan, newer: Option<HeaderOnDisk>) {
        self.gaps.remove(span);
        if let Some(header) = newer {
            self.put_header(header);
        }
    }
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
