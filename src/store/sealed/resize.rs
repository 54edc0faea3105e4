//! Making a file longer or shorter.
//!
//! Growing sets the size and nothing else. Shrinking to an earlier block takes two steps: first
//! the file is cut at the end of its new last block, then the size says how much of that block
//! counts. In one step the bytes past the last block would be what is left of a block that was
//! cut, and a later growth would read them as a damaged block. Shrinking within the last block
//! takes one: there is nothing to cut.

use super::permitted::Permitted;
use super::write::check_len;
use super::{Meta, Seal, SealedFile, cut_len};
use crate::format::{BLOCK_LEN, BlockContent, BlockIndex, BlockSpan, NEXT_CAPACITY, stored_len};
use crate::store::{Backing, FileError, IntegrityError};

impl<B: Backing> SealedFile<B> {
    /// Sets the length; bytes that come with a growth read as zeros.
    ///
    /// # Errors
    /// [`FileError`]; the length is then what it was.
    pub fn truncate(&self, len: u64) -> Result<(), FileError> {
        check_len(len)?;
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        let mut meta = self.meta();
        if len == 0 {
            self.backing.set_len(0)?;
            self.tail.lock().take();
            *meta = meta.emptied();
            return Ok(());
        }
        self.load(&mut meta, None)?;
        if matches!(meta.seal, Seal::Lost) {
            self.forget_lost(&mut meta)?;
        }
        self.touch(&mut meta);
        if len < meta.len { self.shrink(&mut meta, len) } else { self.extend(&mut meta, len) }
    }

    /// Makes the file `len` bytes long, at least as long as it is. The caller holds all blocks.
    pub(super) fn extend(&self, meta: &mut Meta, len: u64) -> Result<(), FileError> {
        let first_life = meta.keys().is_none();
        self.ensure_key(meta)?;
        if let Err(error) = self.grow(meta, len, BlockSpan::of_len(len).end) {
            meta.forget_new_key(first_life);
            return Err(error);
        }
        if first_life && let Err(error) = self.write_first_block(meta) {
            self.forget_first_life(meta);
            return Err(error);
        }
        (meta.written, meta.lost_from) = (len, None);
        Ok(())
    }

    /// Sets a new length, at least the old one. Blocks from the old end to before `written` will
    /// stay unwritten. Where the last block may hold more than its length says, the caller holds
    /// all blocks.
    pub(super) fn grow(
        &self,
        meta: &mut Meta,
        len: u64,
        written: BlockIndex,
    ) -> Result<(), FileError> {
        if len > meta.len {
            self.mend_tail_first(meta)?;
        }
        self.backing.set_len(stored_len(len))?;
        let end = meta.end();
        meta.len = len;
        if end < written {
            meta.gaps.add(BlockSpan { first: end, end: written });
        }
        Ok(())
    }

    fn shrink(&self, meta: &mut Meta, len: u64) -> Result<(), FileError> {
        let last = BlockIndex::of(len - 1);
        let fill = (len - last.start()) as usize;
        let (mut block, mut plain) = ([0; BLOCK_LEN], [0; NEXT_CAPACITY]);
        // Opened before anything is cut: a block that can't be read is not to be cut silently.
        let held = self.open_one(meta, last, &mut block, &mut plain)?;
        self.permit_end(meta, last.next())?;
        self.tail.lock().take();
        if last.next() == meta.end() {
            // Nothing but the r bytes gets shorter, and they must be a hole already.
            self.mend_tail_first(meta)?;
        } else {
            self.backing.set_len(last.next().stored())?;
            meta.set_shorter(cut_len(last, held, meta.committed_len()));
            meta.stale_tail = false;
        }
        self.backing.set_len(stored_len(len))?;
        meta.set_shorter(len);
        if let (Some(_), Some(keys)) = (held.filter(|&held| held > fill), meta.keys()) {
            keys.seal(last, &plain[..fill], &mut block);
            // The length is what was asked for. If this fails, the block is sealed anew before
            // a growth or a commit.
            meta.stale_tail = self.write_block(meta, last, &mut block).is_err();
        }
        Ok(())
    }

    /// Cuts the backing file to `len` plaintext bytes, more than none, in the two steps.
    pub(super) fn cut_backing(&self, meta: &mut Meta, len: u64) -> std::io::Result<()> {
        let last = BlockIndex::of(len - 1);
        self.backing.set_len(last.next().stored())?;
        meta.set_shorter(last.end().min(meta.len));
        self.backing.set_len(stored_len(len))?;
        meta.set_shorter(len);
        Ok(())
    }

    /// [`SealedFile::mend_tail`] where it is needed, durable before the size changes.
    fn mend_tail_first(&self, meta: &mut Meta) -> Result<(), FileError> {
        if meta.stale_tail && self.mend_tail(meta)? {
            self.sync_first(meta)?;
        }
        meta.stale_tail = false;
        Ok(())
    }

    /// A crash can leave a last block that holds more than the length says, and in the place of
    /// the r bytes past it a part of a block that was to come there. The one is sealed anew and
    /// the other zeroed, so that no growth brings them back; the times stay. After a
    /// failed sync both are written once more. Whether anything was written. The caller holds all
    /// blocks.
    pub(super) fn mend_tail(&self, meta: &mut Meta) -> Result<bool, FileError> {
        let Some(last) = meta.len.checked_sub(1).map(BlockIndex::of) else { return Ok(false) };
        let fill = (meta.len - last.start()) as usize;
        let mut block = [0; BLOCK_LEN];
        let too_full = self.reseal_at(meta, last, fill, &mut block)?;
        if too_full {
            self.write_block_unseen(meta, last, &mut block)?;
        }
        let mut past = [0; NEXT_CAPACITY];
        let kept = self.backing.read_at(&mut past[..fill], last.next().stored())?;
        let written = past[..kept].iter().any(|&byte| byte != 0 || meta.sync_failed);
        if written {
            self.backing.write_unseen(&[0; NEXT_CAPACITY][..kept], last.next().stored())?;
        }
        Ok(too_full || written)
    }

    /// Seals into `block` the first `fill` bytes of the block at `index`; `false` where it holds
    /// no more than that already, unless a sync has failed.
    fn reseal_at(
        &self,
        meta: &Meta,
        index: BlockIndex,
        fill: usize,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<bool, FileError> {
        let mut plain = [0; NEXT_CAPACITY];
        let (Some(held), Some(keys)) =
            (self.open_one(meta, index, block, &mut plain)?, meta.keys())
        else {
            return Ok(false);
        };
        let needed = held > fill || meta.sync_failed;
        if needed {
            keys.seal(index, &plain[..fill.min(held)], block);
        }
        Ok(needed)
    }

    /// Opens one block into `plain` and says how many bytes it holds; `None` for a legal hole.
    pub(super) fn open_one(
        &self,
        meta: &Meta,
        index: BlockIndex,
        block: &mut [u8; BLOCK_LEN],
        plain: &mut [u8; NEXT_CAPACITY],
    ) -> Result<Option<usize>, FileError> {
        let Some(keys) = meta.keys() else { return Ok(None) };
        if self.backing.read_at(block, index.stored())? < BLOCK_LEN {
            return Err(IntegrityError::Vanished.into());
        }
        match keys.open(index, block, plain)? {
            BlockContent::Data(held) => Ok(Some(held)),
            BlockContent::Hole if meta.may_be_hole(index) => Ok(None),
            BlockContent::Hole => Err(IntegrityError::Zeroed(index.0).into()),
        }
    }

    /// A crash left a length without a header. Before the file gets a key of its own, the blocks
    /// of the lost one are given back; the length stays, and all of it is hole.
    pub(super) fn forget_lost(&self, meta: &mut Meta) -> Result<(), FileError> {
        let len = meta.len;
        let mut anew = meta.emptied();
        if len > 0 {
            // Before anything is cut: there may be no key to be had.
            self.ensure_key(&mut anew)?;
        }
        self.backing.set_len(0)?;
        *meta = anew;
        if len > 0 {
            let end = BlockSpan::of_len(len).end;
            let kept = self.grow(meta, len, end).and_then(|()| self.write_first_block(meta));
            if let Err(error) = kept {
                self.keep_lost(meta, len);
                return Err(error);
            }
            meta.written = len;
        }
        self.touch(meta);
        Ok(())
    }

    /// Puts the length back of a file that could not get a header.
    fn keep_lost(&self, meta: &mut Meta, len: u64) {
        match self.backing.set_len(stored_len(len)) {
            Ok(()) => *meta = Meta { len, seal: Seal::Lost, touched: true, ..meta.emptied() },
            Err(error) => {
                log::error!("a file lost the length that it had: {error}");
                *meta = Meta { touched: true, ..meta.emptied() };
            }
        }
    }
}

impl Meta {
    pub(super) fn empty() -> Self {
        Self {
            len: 0,
            written: 0,
            durable: 0,
            lost_from: None,
            seal: Seal::Empty,
            gaps: Default::default(),
            durable_blocks: 0,
            permitted: Permitted::nothing(),
            own_headers: 0,
            looked_through: false,
            revision: 0,
            stale_tail: false,
            sync_failed: false,
            next_key: None,
            touched: false,
        }
    }

    /// [`Meta::empty`] for a file that becomes empty while it is open.
    pub(super) fn emptied(&self) -> Self {
        Self { revision: self.revision + 1, ..Self::empty() }
    }

    pub(super) fn set_shorter(&mut self, len: u64) {
        self.len = len;
        self.written = self.written.min(len);
        self.durable = self.durable.min(len);
        self.lost_from = self.lost_from.filter(|&lost| lost <= len);
        let end = self.end();
        self.gaps.remove(BlockSpan { first: end, end: BlockSpan::ALL.end });
        self.durable_blocks = self.durable_blocks.min(end.0);
        self.revision += 1;
    }
}
