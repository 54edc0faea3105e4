//! Reading plaintext.

use std::sync::Arc;

use super::file::SealedFile;
use super::header::BlockKeys;
use crate::format::{BLOCK_LEN, BlockIndex, BlockSpan};
use crate::store::buffers::with_buffers;
use crate::store::{Backing, FileError};

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
            self.read_sealed(span, sealed)?;
            match self.keys_for_reading(span, sealed)? {
                Some(keys) => self.open_blocks(&keys, span, sealed, plain)?,
                None => plain.fill(0),
            }
            let skip = (offset - span.first.start()) as usize;
            Ok(take(&plain[skip..skip + len as usize]))
        })
    }

    /// The keys, from the header in `sealed` where it begins with block 0; `None` where all that
    /// there is reads as zeros.
    fn keys_for_reading(
        &self,
        span: BlockSpan,
        sealed: &[u8],
    ) -> Result<Option<Arc<BlockKeys>>, FileError> {
        let mut state = self.state();
        let first = (span.first == BlockIndex(0)).then_some(sealed);
        self.load(&mut state, first)?;
        Ok(state.keys())
    }
}
