//! What the tests of sealed files share: backing files in memory, and mounts without a vault.

// Each test target includes the whole of this module and uses a part of it.
#![allow(dead_code, unused_imports)]

#[path = "../bytes.rs"]
pub mod bytes;
#[path = "../campaign.rs"]
pub mod campaign;
pub mod image;
pub mod memory;
pub mod mounts;
pub mod ops;

pub use bytes::{pattern, random_bytes, rng};
pub use campaign::Campaign;
pub use image::{Block, Image};
pub use memory::{Call, Fault, Memory, Plan, Trouble};
pub use mounts::Mounts;
pub use ops::Op;

use atrest::store::{Backing, FileError, SealedFile};

/// All of a file's plaintext.
pub fn read_all<B: Backing>(file: &SealedFile<B>) -> Result<Vec<u8>, FileError> {
    file.read_with(0, file.len() as usize, <[u8]>::to_vec)
}
