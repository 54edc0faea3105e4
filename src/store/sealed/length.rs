//! The plaintext length of a file by its size.

use crate::format::{
    BLOCK_HEAD_LEN, BlockIndex, HEADER_LEN, Header, StoredLen, block_head_offset, claimed_fill,
    stored_len,
};
use crate::store::{Backing, FileError, IntegrityError};

/// The plaintext length of a backing file of `size` bytes. It needs no key; where a crash left
/// the length to header and last block, what they say of themselves is believed only when they
/// are read.
///
/// # Errors
/// [`FileError::Integrity`] when no sealed file has that size; [`FileError::Io`].
pub fn plain_len(backing: &impl Backing, size: u64) -> Result<u64, FileError> {
    match StoredLen::from_stored(size)? {
        StoredLen::Exact(len) => Ok(len),
        StoredLen::InBlock(last) => {
            let (mut header, mut head) = ([0; HEADER_LEN], [0; BLOCK_HEAD_LEN]);
            let at = last.stored() + block_head_offset(last);
            if backing.read_at(&mut header, 0)? < header.len()
                || backing.read_at(&mut head, at)? < head.len()
            {
                return Err(IntegrityError::Vanished.into());
            }
            let held = claimed_fill(&head, last);
            Ok(cut_len(last, Some(held), Header::claimed_len(&header)))
        }
    }
}

/// The plaintext length of a file that was cut behind its block `last` and given no length yet:
/// where the content of that block ends, a hole's at its end; but a file that was to become
/// shorter than `committed` was not to lose bytes that the block does not hold.
pub(super) fn cut_len(last: BlockIndex, held: Option<usize>, committed: u64) -> u64 {
    let held = last.start() + held.unwrap_or(last.capacity()) as u64;
    held.max(committed.min(last.end()))
}

/// Whether a backing file can be as long as `len` plaintext bytes need.
pub(super) fn check_len(len: u64) -> Result<(), FileError> {
    let fits = len < i64::MAX as u64 / 2 && i64::try_from(stored_len(len)).is_ok();
    fits.then_some(()).ok_or(FileError::TooLong)
}
