//! Buffers that are kept between requests.

use parking_lot::Mutex;

use crate::format::BLOCK_LEN;

/// Bytes that start at a multiple of the block length and are kept for the next request.
#[derive(Debug, Default)]
pub struct Aligned(Vec<u8>);

impl Aligned {
    /// More than this is given back after a request: twice the largest that the kernel sends.
    const KEEP: usize = 2 * 1024 * 1024 + 16 * BLOCK_LEN;

    /// `len` bytes of unspecified content.
    pub fn take(&mut self, len: usize) -> &mut [u8] {
        if self.0.len() < len + BLOCK_LEN {
            self.0 = vec![0; (len + BLOCK_LEN).next_multiple_of(64 * 1024)];
        }
        let start = self.0.as_ptr().align_offset(BLOCK_LEN);
        &mut self.0[start..start + len]
    }

    fn trim(&mut self) {
        if self.0.len() > Self::KEEP {
            self.0 = Vec::new();
        }
    }
}

/// What one request works in: sealed blocks as they lie in the vault, and plaintext.
#[derive(Debug, Default)]
pub struct Buffers {
    /// Whole blocks, as read from or to be written to the vault.
    pub sealed: Aligned,
    /// Plaintext of whole blocks, one behind the other.
    pub plain: Aligned,
}

/// Free buffers, the last used at the end: its memory is in the processor's cache, so any thread
/// takes it first. New memory costs more than a request.
static FREE: Mutex<Vec<Buffers>> = Mutex::new(Vec::new());

/// Buffers that are kept at most.
const MAX_FREE: usize = 8;

/// Runs `work` with buffers of its own.
pub fn with_buffers<T>(work: impl FnOnce(&mut Buffers) -> T) -> T {
    let mut buffers = FREE.lock().pop().unwrap_or_default();
    let result = work(&mut buffers);
    buffers.sealed.trim();
    buffers.plain.trim();
    let mut free = FREE.lock();
    if free.len() < MAX_FREE {
        free.push(buffers);
    }
    result
}
