//! What a fuzzer does with bytes of this layer.

use super::{
    BLOCK_LEN, BlockContent, BlockIndex, FileId, HEADER_LEN, Header, HoleExtents, claimed_fill,
    open_block, seal_block,
};
use crate::crypto::{FileKeys, Secret};

fn keys() -> FileKeys {
    FileKeys::derive(&Secret::from_bytes(&[7; 32]), &[7; 16])
}

/// A header that parses is the one header that is written so.
pub fn header(bytes: &[u8]) -> bool {
    let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else { return false };
    let Ok(header) = Header::parse(bytes) else { return false };
    assert_eq!(header.committed_len, Header::claimed_len(bytes));
    let key = keys().header;
    let written = header.to_bytes(&key);
    assert_eq!(written[..HEADER_LEN - 32], bytes[..HEADER_LEN - 32]);
    assert_eq!(Header::parse(&written).as_ref(), Ok(&header));
    Header::authenticate(&written, &key).expect("it was written under this key");
    let (extents, added) = HoleExtents::covering(header.holes.extents.spans());
    assert_eq!((&extents, added), (&header.holes.extents, 0));
    true
}

/// Bytes that were not sealed never open, and a block that was sealed opens as what it was. The first
/// 8 bytes are the block's index.
pub fn block(bytes: &[u8]) -> bool {
    let Some((index, bytes)) = bytes.split_first_chunk::<8>() else { return false };
    let (index, file) = (BlockIndex(u64::from_le_bytes(*index)), FileId::from_bytes([7; 16]));
    let cipher = keys().content;
    let mut block = vec![0; BLOCK_LEN];
    let len = bytes.len().min(BLOCK_LEN);
    block[..len].copy_from_slice(&bytes[..len]);
    let mut plain = vec![0xff; index.capacity()];
    match open_block(&cipher, &file, index, &block, &mut plain) {
        Ok(BlockContent::Hole) => assert!(plain.iter().all(|&byte| byte == 0)),
        Ok(BlockContent::Data(n)) => panic!("{n} bytes were forged"),
        Err(bad) => assert_eq!(bad.0, index),
    }
    if let Some(head) = block.first_chunk() {
        assert!(claimed_fill(head, index) <= index.capacity());
    }
    let content = &bytes[..bytes.len().min(index.capacity())];
    seal_block(&cipher, &file, index, content, &mut block);
    let opened = open_block(&cipher, &file, index, &block, &mut plain);
    assert_eq!(opened, Ok(BlockContent::Data(content.len())));
    assert_eq!(&plain[..content.len()], content);
    true
}
