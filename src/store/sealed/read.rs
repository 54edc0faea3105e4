//! Reading plaintext.

use std::sync::Arc;

use super::{BlockKeys, Meta, Seal, SealedFile};
use crate::format::{BLOCK_LEN, BlockContent, BlockIndex, BlockSpan};
use crate::store::buffers::with_buffers;
use crate::store::{Backing, FileError, IntegrityError};

impl<B: Backing> SealedFile<B> {
    /// Hands `len` bytes from `offset` to `take`, fewer where the file ends: one backing read.
    ///
    /// # Errors
    /// [`FileError::Integrity`] when any block of the range is not what was sealed;
    /// [`FileError::Key`]; [`FileError::Io`].
    pub fn read_with<T>(
        &self,
        offset: u64,
        len: usize,
        take: impl FnOnce(&[u8]) -> T,
    ) -> Result<T, FileError> {
        let span = BlockSpan::covering(offset, len as u64);
        let _shared = self.ranges.shared(span);
        let len = self.len().saturating_sub(offset).min(len as u64);
        if len == 0 {
            return Ok(take(&[]));
        }
        let span = BlockSpan::covering(offset, len);
        with_buffers(|buffers| {
            let sealed = buffers.sealed.take(span.count() as usize * BLOCK_LEN);
            let plain = buffers.plain.take((span.end.start() - span.first.start()) as usize);
            self.read_blocks(span, sealed, plain)?;
            let skip = (offset - span.first.start()) as usize;
            Ok(take(&plain[skip..skip + len as usize]))
        })
    }

    /// Reads whole blocks below the file's length and opens them, one behind the other, into
    /// `plain`. The caller holds their range.
    pub(super) fn read_blocks(
        &self,
        span: BlockSpan,
        sealed: &mut [u8],
        plain: &mut [u8],
    ) -> Result<(), FileError> {
        if self.backing.read_at(sealed, span.first.stored())? < sealed.len() {
            return Err(IntegrityError::Vanished.into());
        }
        let Some(keys) = self.keys_for_reading(span, sealed)? else {
            plain.fill(0);
            return Ok(());
        };
        let base = span.first.start();
        for (index, block) in span.iter().zip(sealed.chunks_exact(BLOCK_LEN)) {
            let at = (index.start() - base) as usize;
            let content = keys.open(index, block, &mut plain[at..at + index.capacity()])?;
            if content == BlockContent::Hole && !self.meta().may_be_hole(index) {
                return Err(IntegrityError::Zeroed(index.0).into());
            }
        }
        Ok(())
    }

    /// The keys, from the header in `sealed` where it begins with block 0; `None` where all that
    /// there is reads as zeros.
    fn keys_for_reading(
        &self,
        span: BlockSpan,
        sealed: &[u8],
    ) -> Result<Option<Arc<BlockKeys>>, FileError> {
        let mut meta = self.meta();
        let first = (span.first == BlockIndex(0)).then_some(sealed);
        self.load(&mut meta, first)?;
        Ok(meta.keys())
    }
}

impl Meta {
    pub(super) fn keys(&self) -> Option<Arc<BlockKeys>> {
        match &self.seal {
            Seal::Open(open) => Some(Arc::clone(&open.keys)),
            Seal::Empty | Seal::Unread | Seal::Lost => None,
        }
    }
}
