//! A header as it lies on the disk, and the keys of the blocks behind it.

use std::sync::Arc;

use crate::crypto::FileKeys;
use crate::format::{
    BadBlock, BlockContent, BlockIndex, FileId, HEADER_LEN, Header, open_block, seal_block,
};

/// The keys of the blocks of one life of a file.
pub(super) struct BlockKeys {
    file: FileId,
    keys: FileKeys,
}

impl BlockKeys {
    pub(super) fn new(file: FileId, keys: FileKeys) -> Self {
        Self { file, keys }
    }

    pub(super) fn seal(&self, index: BlockIndex, plain: &[u8], block: &mut [u8]) {
        seal_block(&self.keys.content, &self.file, index, plain, block);
    }

    pub(super) fn open(
        &self,
        index: BlockIndex,
        block: &[u8],
        plain: &mut [u8],
    ) -> Result<BlockContent, BadBlock> {
        open_block(&self.keys.content, &self.file, index, block, plain)
    }
}

/// A header that the file has, or is to have.
#[derive(Clone)]
pub(super) struct HeaderOnDisk {
    pub fields: Header,
    pub bytes: [u8; HEADER_LEN],
    /// [`Gaps::version`](crate::store::gaps::Gaps::version) of the holes that it lists.
    pub gaps: u64,
}

impl HeaderOnDisk {
    pub(super) fn new(fields: Header, keys: &BlockKeys, gaps: u64) -> Self {
        let bytes = fields.to_bytes(&keys.keys.header);
        Self { fields, bytes, gaps }
    }
}

/// An authentic header, and the keys that it gives.
pub(super) struct OpenHeader {
    pub keys: Arc<BlockKeys>,
    /// [`Context::ring_changes`](crate::store::Context::ring_changes) of the keys among which the
    /// file's master key was seen enabled.
    pub seen_enabled: u64,
    /// As it stands on disk, or will with the first write of block 0.
    pub on_disk: HeaderOnDisk,
}
