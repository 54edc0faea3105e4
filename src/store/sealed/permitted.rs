//! What a crash may leave of a file, and the header that permits it before it can happen.
//!
//! A header names the blocks that may be holes, and how many blocks from the start were durable
//! when it was written. After a crash each block before that many is there, and it is zero only
//! where the header lists it. So before a block of them is punched or cut away, a header that
//! permits it is made durable.

use std::sync::atomic::Ordering;

use super::{HeaderOnDisk, Meta, Seal, SealedFile};
use crate::format::{BlockIndex, BlockSpan, Header};
use crate::store::gaps::Gaps;
use crate::store::{Backing, FileError};

/// After so many headers that were made durable for a punch or a cut while the file was open,
/// the next one permits all of them.
const MOST_OWN_HEADERS: u32 = 16;

/// What each header permits that a crash can leave on the disk.
#[derive(Debug)]
pub(super) struct Permitted {
    /// Blocks from this one on may be missing or zero.
    from: u64,
    /// Blocks that may be zero.
    zeros: Gaps,
}

impl Permitted {
    /// There is no header that a crash can leave.
    pub(super) fn anything() -> Self {
        Self { from: 0, zeros: Gaps::default() }
    }

    /// It is not known which header a crash can leave.
    pub(super) fn nothing() -> Self {
        Self { from: u64::MAX, zeros: Gaps::default() }
    }

    /// By a header of an earlier mount that ended cleanly.
    pub(super) fn by_clean(header: &Header) -> Self {
        Self { from: u64::MAX, zeros: Gaps::listed(&header.holes) }
    }

    /// By a header of this mount, or of one that crashed.
    pub(super) fn by(header: &Header) -> Self {
        Self { from: header.holes.durable, zeros: Gaps::listed(&header.holes) }
    }

    /// A crash can leave this header too, of this mount.
    fn restrict(&mut self, header: &Header) {
        self.from = self.from.max(header.holes.durable);
        if !self.zeros.spans().is_empty() {
            self.zeros.intersect(header.holes.extents.spans());
        }
    }

    fn zeros(&self, span: BlockSpan) -> bool {
        let end = BlockIndex(span.end.0.min(self.from));
        self.zeros.covers(BlockSpan { first: span.first, end })
    }

    fn end(&self, end: BlockIndex) -> bool {
        self.from <= end.0
    }
}

/// Where a sync began.
pub(super) struct SyncPoint {
    revision: u64,
    /// The blocks that are durable when it succeeds; `None` while a write makes the file longer.
    blocks: Option<u64>,
}

impl<B: Backing> SealedFile<B> {
    /// What a sync that begins now makes durable.
    pub(super) fn sync_point(&self, meta: &Meta) -> SyncPoint {
        let idle = self.growing.load(Ordering::Relaxed) == 0;
        let blocks = idle.then(|| BlockSpan::of_len(meta.written).end.0);
        SyncPoint { revision: meta.revision, blocks }
    }

    /// Before the blocks of `span` are punched. They are in the file's gaps then.
    pub(super) fn permit_zeros(&self, meta: &mut Meta, span: BlockSpan) -> Result<(), FileError> {
        let permitted = meta.permitted.zeros(span);
        meta.gaps.add(span);
        meta.revision += 1;
        if permitted { Ok(()) } else { self.own_header(meta) }
    }

    /// Before the file is cut so that `end` is the block behind its last one.
    pub(super) fn permit_end(&self, meta: &mut Meta, end: BlockIndex) -> Result<(), FileError> {
        meta.durable_blocks = meta.durable_blocks.min(end.0);
        if meta.permitted.end(end) { Ok(()) } else { self.own_header(meta) }
    }

    /// Makes a header durable that permits what `meta` says.
    fn own_header(&self, meta: &mut Meta) -> Result<(), FileError> {
        let Seal::Open(open) = &meta.seal else { return Ok(()) };
        if meta.own_headers >= MOST_OWN_HEADERS {
            meta.durable_blocks = 0;
        }
        let header = meta.new_header(open, &self.context);
        let permitted = Permitted::by(&header.fields);
        self.write_header(meta, header)?;
        self.sync_first(meta)?;
        meta.permitted = permitted;
        meta.own_headers = meta.own_headers.saturating_add(1);
        Ok(())
    }
}

impl Meta {
    /// A sync that began at `point` has succeeded. `of_this_mount` says that the newest header
    /// was made by this mount.
    pub(super) fn note_synced(&mut self, point: &SyncPoint, of_this_mount: bool) {
        if point.revision != self.revision {
            return;
        }
        if let (Some(blocks), true) = (point.blocks, self.own_headers < MOST_OWN_HEADERS) {
            self.durable_blocks = self.durable_blocks.max(blocks).min(self.end().0);
        }
        if let (true, Seal::Open(open)) = (of_this_mount, &self.seal) {
            self.permitted = Permitted::by(&open.header.fields);
        }
    }

    /// A header is about to be written: a crash can leave it from here on.
    pub(super) fn note_header_write(&mut self, header: &HeaderOnDisk) {
        self.permitted.restrict(&header.fields);
        self.revision += 1;
    }

    /// The blocks of `span` were written.
    pub(super) fn note_filled(&mut self, span: BlockSpan) {
        if let Some(first) = self.gaps.remove(span) {
            // A header no longer lists them, and they are not durable.
            self.durable_blocks = self.durable_blocks.min(first.0);
            self.revision += 1;
            // A commit since the write began lists them still.
            self.touched = true;
        }
    }
}
