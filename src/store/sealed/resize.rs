//! Making a file longer or shorter.
//!
//! Growing sets the size and nothing else. Shrinking to an earlier block takes two steps: first
//! the file is cut at the end of its new last block, then the size says how much of that block
//! counts. In one step the bytes past the last block would be what is left of a block that was
//! cut, and a later growth would read them as a damaged block. Shrinking within the last block
//! takes one: there is nothing to cut.

use std::io;

use super::file::SealedFile;
use super::length::{check_len, cut_len};
use super::state::{Event, FileState};
use crate::format::{BLOCK_LEN, BlockIndex, BlockSpan, NEXT_CAPACITY, stored_len};
use crate::store::{Backing, FileError};

impl<B: Backing> SealedFile<B> {
    /// Sets the length; bytes that come with a growth read as zeros.
    ///
    /// # Errors
    /// [`FileError`]; the length is then what it was.
    pub fn truncate(&self, len: u64) -> Result<(), FileError> {
        check_len(len)?;
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        let mut state = self.state();
        if len == 0 {
            self.backing.set_len(0)?;
            self.tail.lock().take();
            state.on(Event::Emptied);
            return Ok(());
        }
        self.load(&mut state, None)?;
        self.reset_headerless(&mut state)?;
        self.mark_changed(&mut state);
        if len < state.len { self.shrink(&mut state, len) } else { self.extend(&mut state, len) }
    }

    /// Makes the file `len` bytes long, at least as long as it is. The caller holds all blocks.
    pub(super) fn extend(&self, state: &mut FileState, len: u64) -> Result<(), FileError> {
        let is_first_key = !state.has_keys();
        self.ensure_key(state)?;
        if let Err(error) = self.grow(state, len, BlockSpan::of_len(len).end) {
            if is_first_key {
                state.on(Event::Emptied);
            }
            return Err(error);
        }
        if is_first_key && let Err(error) = self.write_first_block(state) {
            self.undo_first_key(state);
            return Err(error);
        }
        (state.written, state.lost_from) = (len, None);
        Ok(())
    }

    /// Sets a new length, at least the old one. Blocks from the old end to before `written` will
    /// stay unwritten. Where the last block may hold more than its length says, the caller holds
    /// all blocks.
    pub(super) fn grow(
        &self,
        state: &mut FileState,
        len: u64,
        written: BlockIndex,
    ) -> Result<(), FileError> {
        if len > state.len {
            self.repair_tail_durably(state)?;
        }
        self.backing.set_len(stored_len(len))?;
        let end = state.end();
        state.len = len;
        if end < written {
            state.gaps.add(BlockSpan { first: end, end: written });
        }
        Ok(())
    }

    fn shrink(&self, state: &mut FileState, len: u64) -> Result<(), FileError> {
        let last = BlockIndex::of(len - 1);
        let fill = (len - last.start()) as usize;
        let (mut block, mut plain) = ([0; BLOCK_LEN], [0; NEXT_CAPACITY]);
        // Opened before anything is cut: a block that can't be read is not to be cut silently.
        let held = self.open_one(state, last, &mut block, &mut plain)?;
        self.permit_end(state, last.next())?;
        self.tail.lock().take();
        if last.next() == state.end() {
            // Nothing but the r bytes gets shorter, and they must be a hole already.
            self.repair_tail_durably(state)?;
        } else {
            self.backing.set_len(last.next().stored())?;
            state.set_shorter(cut_len(last, held, state.committed_len()));
            state.stale_tail = false;
        }
        self.backing.set_len(stored_len(len))?;
        state.set_shorter(len);
        if let (true, Some(open)) = (held.is_some_and(|held| held > fill), state.header.open()) {
            open.keys.seal(last, &plain[..fill], &mut block);
            // The length is what was asked for. If this fails, the block is sealed anew before
            // a growth or a commit.
            state.stale_tail = self.write_block(state, last, &mut block).is_err();
        }
        Ok(())
    }

    /// Cuts the backing file to `len` plaintext bytes, more than none, in the two steps.
    pub(super) fn cut_backing(&self, state: &mut FileState, len: u64) -> io::Result<()> {
        let last = BlockIndex::of(len - 1);
        self.backing.set_len(last.next().stored())?;
        state.set_shorter(last.end().min(state.len));
        self.backing.set_len(stored_len(len))?;
        state.set_shorter(len);
        Ok(())
    }
}
