//! Format v1: bytes ↔ types. No I/O, and no randomness of its own.
//!
//! The byte tables and what each rule defends against are in the manual's
//! format chapter.

mod block;
mod epoch_set;
mod extents;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod geometry;
mod header;
mod ids;
mod json_mac;

pub use block::{
    BLOCK_HEAD_LEN, BadBlock, BlockContent, block_head_offset, claimed_fill, open_block, seal_block,
};
pub use epoch_set::EpochSet;
pub use extents::HoleExtents;
pub use geometry::{
    BLOCK_LEN, BlockIndex, BlockSpan, FIRST_CAPACITY, HEADER_LEN, NEXT_CAPACITY, StoredLen,
    UnsealedLength, stored_len,
};
pub use header::{BadHeader, Header, Holes, wrap_context};
pub use ids::{Epoch, FileId, KeyVersion, MasterKeyId, RecordId, VaultId};
pub use json_mac::{Authenticated, JsonMac, padded_line};

/// The version of the format that this program writes and the only one that it reads.
pub const FORMAT_VERSION: u16 = 1;
/// The same of a key file.
pub const KEY_FILE_VERSION: u64 = 1;
