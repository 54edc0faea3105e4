//! Every rule about what a crash can leave of a file, and how it is made sound again.
//!
//! | left by a crash | known by | read as | made sound by |
//! |---|---|---|---|
//! | a length without a header | block 0 begins blank, and a mount has crashed | zeros | `reset_headerless`: a new key, all of it a hole |
//! | a header that is not the newest | its epoch crashed | the header binds durable blocks alone | the next commit |
//! | a file longer than its header says | a later epoch crashed | blocks behind the header's may be holes | the next commit |
//! | a last block that holds more than the length says, or a rest past it | any of these | cut at the length | `repair_tail`, before a growth or a commit |
//!
//! Without a crash in the record of mounts each of these is [`IntegrityError`].

use super::file::SealedFile;
use super::permitted::Permitted;
use super::state::{CrashBounds, Event, FileState, HeaderState};
use crate::format::{
    BLOCK_LEN, BadHeader, BlockIndex, BlockSpan, HEADER_LEN, Header, NEXT_CAPACITY, StoredLen,
    stored_len,
};
use crate::store::gaps::Gaps;
use crate::store::{Backing, Context, EpochRecord, FileError, IntegrityError};

/// Whether a header that can't be parsed is one that a crash kept from the disk: a file that was
/// never fsynced.
pub(super) fn explains_blank_header(epochs: &EpochRecord, bad: BadHeader) -> bool {
    bad == BadHeader::Blank && epochs.any_crashed()
}

/// Compares the length `len` with the one that an authentic header commits to, and says which blocks
/// may be holes. After a crash of the header's own mount, only the blocks that were durable bind it.
///
/// # Errors
/// [`IntegrityError::Cut`], [`IntegrityError::Extended`] where no crash explains the length.
pub(super) fn inspect(
    header: &Header,
    len: u64,
    epochs: &EpochRecord,
) -> Result<CrashBounds, IntegrityError> {
    let committed = header.committed_len;
    let crashed = epochs.crashed(header.epoch);
    let grown_in_crash = epochs.crashed_after(header.epoch);
    let (end, committed_end) = (BlockSpan::of_len(len).end, BlockSpan::of_len(committed).end);
    let cut = if crashed { end.0 < header.holes.durable } else { len < committed };
    if cut {
        return Err(IntegrityError::Cut { len, committed });
    }
    if len > committed && !crashed && !grown_in_crash {
        return Err(IntegrityError::Extended { len, committed });
    }
    let stale_tail = crashed || grown_in_crash;
    let mut gaps = Gaps::listed(&header.holes);
    gaps.remove(BlockSpan { first: end, end: BlockSpan::ALL.end });
    let known = if crashed { BlockIndex(header.holes.durable.max(1)) } else { committed_end };
    gaps.add_uncertain(BlockSpan { first: known, end });
    if stale_tail {
        // The mount that crashed may have filled holes, and not have said so.
        gaps.mark_all_uncertain();
    }
    let of_this_mount = epochs.current == header.epoch;
    let durable_blocks = if of_this_mount { header.holes.durable } else { known.0 };
    let permitted = match crashed {
        // It need not be durable yet.
        false if of_this_mount => Permitted::nothing(),
        false => Permitted::by_clean(header),
        // One that says another length does not say where a cut may end.
        true if len != committed => Permitted::nothing(),
        true => Permitted::by(header),
    };
    Ok(CrashBounds { stale_tail, gaps, durable_blocks, permitted })
}

impl Context {
    /// Whether a file of `size` bytes that begins with `bytes`, which are not authenticated, is to
    /// be recovered: nothing but a crash can explain it.
    pub fn needs_recovery(&self, bytes: &[u8; HEADER_LEN], size: u64) -> bool {
        let epochs = self.epochs();
        match Header::parse(bytes) {
            Ok(header) => {
                epochs.crashed(header.epoch)
                    || header.holes.uncertain > 0
                    || (epochs.crashed_after(header.epoch) && header.holes.extents.count() > 0)
                    || StoredLen::from_stored(size) != Ok(StoredLen::Exact(header.committed_len))
            }
            Err(bad) => explains_blank_header(epochs, bad),
        }
    }
}

/// What [`SealedFile::recover`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// The header is up to date; the content stays.
    Kept,
    /// A crash had taken the header: the file has its length, all of it a hole.
    Zeroed,
}

impl<B: Backing> SealedFile<B> {
    /// Whether the header is of a mount that crashed, or was lost in one, or the file is longer
    /// than its header says, which only a crash explains.
    pub(in crate::store) fn left_by_crash(&self) -> Result<bool, FileError> {
        let mut state = self.state();
        self.load(&mut state, None)?;
        Ok(match &state.header {
            HeaderState::Open(open) => {
                let header = &open.on_disk.fields;
                self.context.epochs().crashed(header.epoch)
                    || (!state.needs_commit && state.len > header.committed_len)
            }
            HeaderState::Missing => true,
            HeaderState::Empty | HeaderState::Unread => false,
        })
    }

    /// Before [`SealedFile::recover`]: reads the header, and finds out which blocks are holes.
    /// Others use the file meanwhile.
    ///
    /// # Errors
    /// [`FileError`] when the file can't be read, or is not what was sealed.
    pub fn prepare_recovery(&self) -> Result<(), FileError> {
        self.load(&mut self.state(), None)?;
        self.narrow_all()
    }

    /// Brings the header up to date with the file as it is. The content stays.
    ///
    /// # Errors
    /// [`FileError`] as of [`SealedFile::prepare_recovery`], or when the header can't be written.
    pub fn recover(&self) -> Result<Recovered, FileError> {
        let recovered = {
            let _alone = self.ranges.exclusive(BlockSpan::ALL);
            let mut state = self.state();
            self.load(&mut state, None)?;
            if state.header.is_missing() {
                self.reset_headerless(&mut state)?;
                Recovered::Zeroed
            } else {
                if state.is_header_stale(&self.context) {
                    self.mark_changed(&mut state);
                }
                Recovered::Kept
            }
        };
        self.commit()?;
        Ok(recovered)
    }

    /// Before a file whose header is missing gets a key of its own: gives the blocks of the lost one
    /// back; the length stays, and all of it is hole. Does nothing to another file. The caller holds
    /// all blocks of a file whose header is missing.
    pub(super) fn reset_headerless(&self, state: &mut FileState) -> Result<(), FileError> {
        if !state.header.is_missing() {
            return Ok(());
        }
        let len = state.len;
        let mut anew = state.emptied();
        if len > 0 {
            // Before anything is cut: there may be no key to be had.
            self.ensure_key(&mut anew)?;
        }
        self.backing.set_len(0)?;
        *state = anew;
        if len > 0 {
            let end = BlockSpan::of_len(len).end;
            let kept = self.grow(state, len, end).and_then(|()| self.write_first_block(state));
            if let Err(error) = kept {
                self.restore_headerless(state, len);
                return Err(error);
            }
            state.written = len;
        }
        self.mark_changed(state);
        Ok(())
    }

    /// Puts the length back of a file that could not get a header.
    fn restore_headerless(&self, state: &mut FileState, len: u64) {
        let restored = self.backing.set_len(stored_len(len));
        state.on(Event::Emptied);
        state.needs_commit = true;
        match restored {
            Ok(()) => {
                state.len = len;
                state.on(Event::HeaderLost);
            }
            Err(error) => log::error!("a file lost the length that it had: {error}"),
        }
    }

    /// [`SealedFile::repair_tail`] where it is needed, durable before the size changes.
    pub(super) fn repair_tail_durably(&self, state: &mut FileState) -> Result<(), FileError> {
        if state.stale_tail && self.repair_tail(state)? {
            self.sync_before(state)?;
        }
        state.stale_tail = false;
        Ok(())
    }

    /// A crash can leave a last block that holds more than the length says, and in the place of
    /// the r bytes past it a part of a block that was to come there. The one is sealed anew and
    /// the other zeroed, so that no growth brings them back; the times stay. After a
    /// failed sync both are written once more. Whether anything was written. The caller holds all
    /// blocks.
    pub(super) fn repair_tail(&self, state: &mut FileState) -> Result<bool, FileError> {
        let Some(last) = state.len.checked_sub(1).map(BlockIndex::of) else { return Ok(false) };
        let fill = (state.len - last.start()) as usize;
        let mut block = [0; BLOCK_LEN];
        let too_full = self.reseal_at(state, last, fill, &mut block)?;
        if too_full {
            self.write_block_preserving_mtime(state, last, &mut block)?;
        }
        let mut past = [0; NEXT_CAPACITY];
        let kept = self.backing.read_at(&mut past[..fill], last.next().stored())?;
        let written = past[..kept].iter().any(|&byte| byte != 0 || state.sync_failed);
        if written {
            let zeros = &[0; NEXT_CAPACITY][..kept];
            self.backing.write_preserving_mtime(zeros, last.next().stored())?;
        }
        Ok(too_full || written)
    }

    /// Seals into `block` the first `fill` bytes of the block at `index`; `false` where it holds
    /// no more than that already, unless a sync has failed.
    fn reseal_at(
        &self,
        state: &FileState,
        index: BlockIndex,
        fill: usize,
        block: &mut [u8; BLOCK_LEN],
    ) -> Result<bool, FileError> {
        let mut plain = [0; NEXT_CAPACITY];
        let Some(held) = self.open_one(state, index, block, &mut plain)? else { return Ok(false) };
        let Some(open) = state.header.open() else { return Ok(false) };
        let needed = held > fill || state.sync_failed;
        if needed {
            open.keys.seal(index, &plain[..fill.min(held)], block);
        }
        Ok(needed)
    }
}
