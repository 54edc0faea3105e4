//! Reading a header, and what it and the record of mounts say together.

use std::sync::Arc;

use super::{BlockKeys, HeaderOnDisk, Meta, Open, Seal, SealedFile};
use crate::format::{BadHeader, HEADER_LEN, Header};
use crate::store::{Backing, FileError, IntegrityError};

impl<B: Backing> SealedFile<B> {
    /// Whether the header is of a mount that crashed, or was lost in one.
    pub(in crate::store) fn left_by_crash(&self) -> Result<bool, FileError> {
        let mut meta = self.meta();
        self.load(&mut meta, None)?;
        Ok(match &meta.seal {
            Seal::Open(open) => self.context.epochs().crashed(open.header.fields.epoch),
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
                let header = HeaderOnDisk { fields, bytes };
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

    /// Compares the length with the one that the header commits to, and says where zero blocks
    /// are legal. A header of an epoch that crashed is what the crash left: it binds nothing.
    fn check_extent(&self, header: &Header, meta: &mut Meta) -> Result<(), FileError> {
        let epochs = self.context.epochs();
        let (len, committed) = (meta.len, header.committed_len);
        let grown_in_crash = epochs.crashed_after(header.epoch);
        meta.owned = epochs.crashed(header.epoch) && len == committed;
        meta.stale_tail = grown_in_crash || epochs.crashed(header.epoch);
        let bound = !epochs.crashed(header.epoch);
        if bound && len < committed {
            return Err(IntegrityError::Cut { len, committed }.into());
        }
        if bound && len > committed && !grown_in_crash {
            return Err(IntegrityError::Extended { len, committed }.into());
        }
        meta.holes_from = if !bound || header.flags.holes {
            0
        } else if grown_in_crash {
            committed
        } else {
            u64::MAX
        };
        Ok(())
    }
}
