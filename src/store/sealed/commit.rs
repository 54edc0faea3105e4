//! The header on disk: what it says of the file, and bringing it up to date.

use std::io;

use super::{BlockKeys, Meta, Open, Seal, SealedFile};
use crate::format::{BlockIndex, BlockSpan, HEADER_LEN, Header};
use crate::store::{Backing, Context, FileError};

/// A header that the file has, or is to have.
#[derive(Clone)]
pub(super) struct HeaderOnDisk {
    pub(super) fields: Header,
    pub(super) bytes: [u8; HEADER_LEN],
    /// The version of the gaps that it lists.
    pub(super) gaps: u64,
}

impl HeaderOnDisk {
    pub(super) fn new(fields: Header, keys: &BlockKeys, gaps: u64) -> Self {
        let bytes = fields.to_bytes(&keys.keys.header);
        Self { fields, bytes, gaps }
    }
}

impl<B: Backing> SealedFile<B> {
    /// Brings the header on disk up to date: length, holes, epoch. Leaves the times alone.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn commit(&self) -> Result<(), FileError> {
        if !self.meta().touched {
            return Ok(());
        }
        let mut all = false;
        let (_alone, mut meta) = loop {
            let span = if all { BlockSpan::ALL } else { BlockSpan::one(BlockIndex(0)) };
            let held = self.ranges.exclusive(span);
            let meta = self.meta();
            if !meta.touched {
                return Ok(());
            }
            if all || !(meta.stale_tail || matches!(meta.seal, Seal::Lost)) {
                break (held, meta);
            }
            all = true;
        };
        if matches!(meta.seal, Seal::Lost) {
            // Its first write failed, and so did taking its length back: no header is there yet, and
            // only a crash excuses that.
            self.forget_lost(&mut meta)?;
        }
        if meta.stale_tail {
            // No later mount looks at the tail of a file whose header is of a clean one.
            match self.mend_tail(&mut meta) {
                Ok(_) => meta.stale_tail = false,
                // A damaged block stays one, and whoever reads it is told.
                Err(FileError::Integrity(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if meta.is_header_stale(&self.context) {
            self.narrow_once(&mut meta);
        }
        if let Some(header) = meta.newer_header(&self.context) {
            self.write_header(&mut meta, header)?;
        }
        meta.touched = false;
        Ok(())
    }

    /// Writes a header alone. The caller holds block 0.
    pub(super) fn write_header(&self, meta: &mut Meta, header: HeaderOnDisk) -> io::Result<()> {
        meta.note_header_write(&header);
        let written = self.backing.write_unseen(&header.bytes, 0);
        meta.note_header(written.is_ok(), Some(header));
        written
    }
}

impl Meta {
    /// The header as the file now is.
    pub(super) fn new_header(&self, open: &Open, context: &Context) -> HeaderOnDisk {
        let fields = Header {
            holes: self.gaps.to_holes(self.durable_blocks),
            committed_len: self.len,
            epoch: context.epochs().current,
            ..open.header.fields.clone()
        };
        HeaderOnDisk::new(fields, &open.keys, self.gaps.version())
    }

    /// Whether there is more to say than the header on disk says.
    pub(super) fn is_header_stale(&self, context: &Context) -> bool {
        let Seal::Open(open) = &self.seal else { return false };
        let on_disk = &open.header;
        self.sync_failed
            || on_disk.fields.committed_len != self.len
            || on_disk.gaps != self.gaps.version()
            || context.epochs().crashed(on_disk.fields.epoch)
    }

    /// The header to write, or `None` when the one on disk says all there is to say.
    pub(super) fn newer_header(&self, context: &Context) -> Option<HeaderOnDisk> {
        let Seal::Open(open) = &self.seal else { return None };
        self.is_header_stale(context).then(|| self.new_header(open, context))
    }

    /// Notes a write that carried a `newer` header, or none.
    pub(super) fn note_header(&mut self, written: bool, newer: Option<HeaderOnDisk>) {
        let Some(header) = newer else { return };
        self.note_header_write(&header);
        match &mut self.seal {
            Seal::Open(open) if written => {
                open.header = header;
                self.sync_failed = false;
            }
            // A failure does not say which of the two headers is there.
            Seal::Open(_) => (self.sync_failed, self.touched) = (true, true),
            Seal::Empty | Seal::Unread | Seal::Lost => {}
        }
    }

    pub(super) fn committed_len(&self) -> u64 {
        match &self.seal {
            Seal::Open(open) => open.header.fields.committed_len,
            Seal::Empty | Seal::Unread | Seal::Lost => 0,
        }
    }

    /// Whether the newest header, which need not be durable, was made by this mount, and no sync
    /// has failed since.
    pub(super) fn header_is_of(&self, context: &Context) -> bool {
        match &self.seal {
            Seal::Open(open) => {
                !self.sync_failed && open.header.fields.epoch == context.epochs().current
            }
            Seal::Empty | Seal::Unread | Seal::Lost => false,
        }
    }
}
