//! Reading a header, and what it and the record of mounts say together.

use std::sync::Arc;

use super::permitted::Permitted;
use super::{BlockKeys, HeaderOnDisk, Meta, Open, Seal, SealedFile};
use crate::format::{BadHeader, BlockIndex, BlockSpan, HEADER_LEN, Header};
use crate::store::gaps::Gaps;
use crate::store::{Backing, FileError, IntegrityError};

impl<B: Backing> SealedFile<B> {
    /// Whether the header is of a mount that crashed, or was lost in one, or the file is longer
    /// than its header says, which only a crash explains.
    pub(in crate::store) fn left_by_crash(&self) -> Result<bool, FileError> {
        let mut meta = self.meta();
        self.load(&mut meta, None)?;
        Ok(match &meta.seal {
            Seal::Open(open) => {
                let header = &open.header.fields;
                self.context.epochs().crashed(header.epoch)
                    || (!meta.touched && meta.len > header.committed_len)
            }
            Seal::Lost => true,
            Seal::Empty | Seal::Unread => false,
        })
    }

    /// Reads and authenticates the header, if that was not done yet, and makes sure that the
    /// file's master key may be used now. `first` may be the file's first bytes where the caller
    /// has them.
    pub(super) fn load(&self, meta: &mut Meta, first: Option<&[u8]>) -> Result<(), FileError> {
        match &mut meta.seal {
            Seal::Unread => self.load_header(meta, first),
            Seal::Open(open) => {
                let changes = self.context.ring_changes();
                if open.seen_enabled != changes {
                    self.context.ring().require_enabled(&open.header.fields.master_key)?;
                    open.seen_enabled = changes;
                }
                Ok(())
            }
            Seal::Empty | Seal::Lost => Ok(()),
        }
    }

    fn load_header(&self, meta: &mut Meta, first: Option<&[u8]>) -> Result<(), FileError> {
        // Before the ring is used, so that a change meanwhile is looked at again.
        let seen_enabled = self.context.ring_changes();
        let mut bytes = [0; HEADER_LEN];
        match first.and_then(|first| first.first_chunk::<HEADER_LEN>()) {
            Some(first) => bytes = *first,
            None if self.backing.read_at(&mut bytes, 0)? < HEADER_LEN => {
                return Err(IntegrityError::Vanished.into());
            }
            None => {}
        }
        match self.context.open_header(&bytes) {
            Ok((fields, keys)) => {
                self.check_extent(&fields, meta)?;
                let keys = Arc::new(BlockKeys { file: fields.file_id, keys });
                let header = HeaderOnDisk { fields, bytes, gaps: meta.gaps.version() };
                meta.seal = Seal::Open(Box::new(Open { keys, seen_enabled, header }));
                Ok(())
            }
            Err(FileError::Integrity(IntegrityError::Header(BadHeader::Blank)))
                if self.context.epochs().any_crashed() =>
            {
                log::warn!(
                    "a crash left a file without its header: it was never fsynced and reads as zeros"
                );
                meta.seal = Seal::Lost;
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Compares the length with the one that the header commits to, and says which blocks may be
    /// holes. After a crash of the header's own mount, only the blocks that were durable bind it.
    fn check_extent(&self, header: &Header, meta: &mut Meta) -> Result<(), FileError> {
        let epochs = self.context.epochs();
        let (len, committed) = (meta.len, header.committed_len);
        let crashed = epochs.crashed(header.epoch);
        let grown_in_crash = epochs.crashed_after(header.epoch);
        let (end, committed_end) = (meta.end(), BlockSpan::of_len(committed).end);
        let cut = if crashed { end.0 < header.holes.durable } else { len < committed };
        if cut {
            return Err(IntegrityError::Cut { len, committed }.into());
        }
        if len > committed && !crashed && !grown_in_crash {
            return Err(IntegrityError::Extended { len, committed }.into());
        }
        meta.stale_tail = crashed || grown_in_crash;
        meta.gaps = Gaps::listed(&header.holes);
        meta.gaps.remove(BlockSpan { first: end, end: BlockSpan::ALL.end });
        let known = if crashed { BlockIndex(header.holes.durable.max(1)) } else { committed_end };
        meta.gaps.add_uncertain(BlockSpan { first: known, end });
        if meta.stale_tail {
            // The mount that crashed may have filled holes, and not have said so.
            meta.gaps.doubt_all();
        }
        meta.durable_blocks = match epochs.current == header.epoch {
            true => header.holes.durable,
            false => known.0,
        };
        meta.permitted = match crashed {
            // It need not be durable yet.
            false if epochs.current == header.epoch => Permitted::nothing(),
            false => Permitted::by_clean(header),
            // One that says another length does not say where a cut may end.
            true if len != committed => Permitted::nothing(),
            true => Permitted::by(header),
        };
        Ok(())
    }
}
