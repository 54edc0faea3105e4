//! One block: nonce 12 | n 2 | flags 2 | ciphertext of n bytes | zeros | tag 16.
//!
//! `n` is how many plaintext bytes the block holds. Associated data: file id 16, block index 8,
//! n 2, flags 2. Integers are little-endian. In block 0 all this follows the header.

use super::{BLOCK_LEN, BlockIndex, FileId, HEADER_LEN};
use crate::crypto::{Aead, BlockCipher, NONCE_LEN, TAG_LEN, random};

const N: usize = NONCE_LEN;
const FLAGS: usize = N + 2;
const BODY: usize = FLAGS + 2;

/// Bytes of a block before its ciphertext: nonce, `n`, flags.
pub const BLOCK_HEAD_LEN: usize = BODY;

/// The offset of a block's head in the block: block 0 has the file's header before it.
pub fn block_head_offset(index: BlockIndex) -> u64 {
    sealed_part(index).start as u64
}

/// The plaintext length by the head of a block, which is not authenticated. A hole
/// holds as many as fit.
pub fn claimed_fill(head: &[u8; BLOCK_HEAD_LEN], index: BlockIndex) -> usize {
    if is_zero(head) {
        return index.capacity();
    }
    usize::from(u16::from_le_bytes([head[N], head[N + 1]])).min(index.capacity())
}

/// What an opened block was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockContent {
    /// Never written: zeros, where holes are legal.
    Hole,
    /// This many plaintext bytes; zeros follow them.
    Data(usize),
}

/// A block that was not sealed for this place in this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {} fails its authentication", .0.0)]
pub struct BadBlock(pub BlockIndex);

/// Seals `plain` into `block`, leaving the header's place in block 0 alone.
///
/// # Panics
/// When `plain` is longer than the block's capacity or `block` not [`BLOCK_LEN`] bytes.
pub fn seal_block(
    cipher: &BlockCipher,
    file: &FileId,
    index: BlockIndex,
    plain: &[u8],
    block: &mut [u8],
) {
    assert!(plain.len() <= index.capacity() && block.len() == BLOCK_LEN);
    let block = &mut block[sealed_part(index)];
    let (head, rest) = block.split_at_mut(BODY);
    let nonce = random::nonce();
    let n = plain.len() as u16;
    head[..N].copy_from_slice(&nonce);
    head[N..FLAGS].copy_from_slice(&n.to_le_bytes());
    head[FLAGS..].copy_from_slice(&0u16.to_le_bytes());
    let (body, tag) = rest.split_at_mut(rest.len() - TAG_LEN);
    let (body, unused) = body.split_at_mut(plain.len());
    body.copy_from_slice(plain);
    unused.fill(0);
    tag.copy_from_slice(&cipher.seal(&nonce, &aad(file, index, n), body));
}

/// Opens `block` into `plain`; bytes of `plain` past what the block holds become zeros.
///
/// # Errors
/// [`BadBlock`] when the block was not sealed for this place in this file; `plain` then holds
/// nothing of the file.
///
/// # Panics
/// When `plain` is shorter than the block's capacity or `block` not [`BLOCK_LEN`] bytes.
pub fn open_block(
    cipher: &BlockCipher,
    file: &FileId,
    index: BlockIndex,
    block: &[u8],
    plain: &mut [u8],
) -> Result<BlockContent, BadBlock> {
    assert!(plain.len() >= index.capacity() && block.len() == BLOCK_LEN);
    let block = &block[sealed_part(index)];
    if block[..BODY].iter().all(|&byte| byte == 0) && is_zero(block) {
        plain.fill(0);
        return Ok(BlockContent::Hole);
    }
    let bad = BadBlock(index);
    let (nonce, rest) = block.split_first_chunk::<NONCE_LEN>().ok_or(bad)?;
    let (n, rest) = rest.split_first_chunk::<2>().ok_or(bad)?;
    let (flags, rest) = rest.split_first_chunk::<2>().ok_or(bad)?;
    let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(bad)?;
    let n = u16::from_le_bytes(*n);
    if usize::from(n) > body.len() || *flags != [0, 0] {
        return Err(bad);
    }
    let (body, unused) = body.split_at(usize::from(n));
    if !is_zero(unused) {
        return Err(bad);
    }
    let (content, past) = plain.split_at_mut(usize::from(n));
    cipher.open(nonce, &aad(file, index, n), body, tag, content).map_err(|_| bad)?;
    past.fill(0);
    Ok(BlockContent::Data(usize::from(n)))
}

fn sealed_part(index: BlockIndex) -> std::ops::Range<usize> {
    if index.0 == 0 { HEADER_LEN..BLOCK_LEN } else { 0..BLOCK_LEN }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

fn aad(file: &FileId, index: BlockIndex, n: u16) -> [u8; 28] {
    let mut aad = [0; 28];
    aad[..16].copy_from_slice(file.as_bytes());
    aad[16..24].copy_from_slice(&index.0.to_le_bytes());
    aad[24..26].copy_from_slice(&n.to_le_bytes());
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::Secret;

    fn cipher() -> BlockCipher {
        BlockCipher::new(&Secret::from_bytes(&[7; 32]))
    }

    #[test]
    fn every_fill_of_a_block_reads_back() {
        let (cipher, file) = (cipher(), FileId::random());
        for index in [BlockIndex(0), BlockIndex(1), BlockIndex(u64::MAX / 4096)] {
            for n in [0, 1, 15, 16, 17, index.capacity() - 1, index.capacity()] {
                let plain: Vec<u8> = (0..n).map(|i| i as u8 ^ 0x5a).collect();
                let mut block = vec![0; BLOCK_LEN];
                seal_block(&cipher, &file, index, &plain, &mut block);
                let mut opened = vec![0xff; index.capacity()];
                let content = open_block(&cipher, &file, index, &block, &mut opened);
                assert_eq!(content, Ok(BlockContent::Data(n)));
                assert_eq!(&opened[..n], plain);
                assert!(is_zero(&opened[n..]));
            }
        }
    }

    #[test]
    fn a_flipped_byte_anywhere_is_found() {
        let (cipher, file) = (cipher(), FileId::random());
        for (index, n) in [(BlockIndex(0), 100), (BlockIndex(3), 4064), (BlockIndex(3), 5)] {
            let mut block = vec![0; BLOCK_LEN];
            seal_block(&cipher, &file, index, &vec![1; n], &mut block);
            let mut plain = vec![0; index.capacity()];
            for at in sealed_part(index) {
                block[at] ^= 0x10;
                assert!(open_block(&cipher, &file, index, &block, &mut plain).is_err(), "{at}");
                block[at] ^= 0x10;
            }
        }
    }

    #[test]
    fn a_block_opens_in_its_own_place_alone() {
        let (cipher, file) = (cipher(), FileId::random());
        let mut block = vec![0; BLOCK_LEN];
        seal_block(&cipher, &file, BlockIndex(1), b"content", &mut block);
        let mut plain = vec![0; BLOCK_LEN];
        assert!(open_block(&cipher, &file, BlockIndex(2), &block, &mut plain).is_err());
        assert!(open_block(&cipher, &FileId::random(), BlockIndex(1), &block, &mut plain).is_err());
    }

    #[test]
    fn a_zero_block_is_a_hole() {
        let mut plain = vec![1; BLOCK_LEN];
        let zero = [0; BLOCK_LEN];
        let content = open_block(&cipher(), &FileId::random(), BlockIndex(1), &zero, &mut plain);
        assert_eq!(content, Ok(BlockContent::Hole));
        assert!(is_zero(&plain));
    }
}
