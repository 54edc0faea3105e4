//! What a crash may leave of a file, by the headers that it may leave.
//!
//! A header names the blocks that may be holes, and how many blocks from the start were durable
//! when it was written. After a crash each block before that many is there, and it is zero only
//! where the header lists it. So before a block of them is punched or cut away, a header that
//! permits it is made durable.

use crate::format::{BlockIndex, BlockSpan, Header};
use crate::store::gaps::Gaps;

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
    pub(super) fn restrict(&mut self, header: &Header) {
        self.from = self.from.max(header.holes.durable);
        if !self.zeros.spans().is_empty() {
            self.zeros.intersect(header.holes.extents.spans());
        }
    }

    /// Whether all blocks of `span` may be zero.
    pub(super) fn zeros(&self, span: BlockSpan) -> bool {
        let end = BlockIndex(span.end.0.min(self.from));
        self.zeros.covers(BlockSpan { first: span.first, end })
    }

    /// Whether `end` may be the block behind the file's last one.
    pub(super) fn end(&self, end: BlockIndex) -> bool {
        self.from <= end.0
    }
}
