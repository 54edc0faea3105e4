//! The content of a file in memory, as a filesystem keeps it: a size, and blocks or holes.

use std::collections::BTreeMap;
use std::sync::Arc;

use atrest::format::BLOCK_LEN;

pub type Block = [u8; BLOCK_LEN];

const LEN: u64 = BLOCK_LEN as u64;

/// A file's content. Clones share blocks until one of them is written.
#[derive(Clone, Default)]
pub struct Image {
    size: u64,
    blocks: BTreeMap<u64, Arc<Block>>,
}

impl Image {
    /// From a file's bytes; zero blocks become holes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut image = Self::default();
        image.set_len(bytes.len() as u64);
        for (index, chunk) in bytes.chunks(BLOCK_LEN).enumerate() {
            if chunk.iter().any(|&byte| byte != 0) {
                image.write_at(chunk, index as u64 * LEN);
            }
        }
        image
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.size as usize];
        self.read_at(&mut bytes, 0);
        bytes
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// The block at `index`; `None` for a hole.
    pub fn block(&self, index: u64) -> Option<&Arc<Block>> {
        self.blocks.get(&index)
    }

    /// Where there are blocks.
    pub fn indices(&self) -> impl Iterator<Item = u64> {
        self.blocks.keys().copied()
    }

    /// Puts a block, or a hole, below the size; what lies past the size becomes zeros.
    pub fn put(&mut self, index: u64, block: Option<Arc<Block>>) {
        assert!(index * LEN < self.size, "block {index} is past the end");
        match block {
            None => drop(self.blocks.remove(&index)),
            Some(block) => drop(self.blocks.insert(index, block)),
        }
        self.zero_past_end();
    }

    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let len = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        for (index, inside, piece) in pieces(offset, len) {
            match self.blocks.get(&index) {
                Some(block) => buf[piece].copy_from_slice(&block[inside]),
                None => buf[piece].fill(0),
            }
        }
        len
    }

    pub fn write_at(&mut self, data: &[u8], offset: u64) {
        self.size = self.size.max(offset + data.len() as u64);
        for (index, inside, piece) in pieces(offset, data.len()) {
            let block = self.blocks.entry(index).or_insert_with(|| Arc::new([0; BLOCK_LEN]));
            Arc::make_mut(block)[inside].copy_from_slice(&data[piece]);
        }
    }

    pub fn set_len(&mut self, len: u64) {
        self.size = len;
        self.blocks.retain(|&index, _| index * LEN < len);
        self.zero_past_end();
    }

    /// Makes a range of whole blocks a hole, and zeroes what it covers of others.
    pub fn punch(&mut self, offset: u64, len: u64) {
        let len = len.min(self.size.next_multiple_of(LEN).saturating_sub(offset)) as usize;
        for (index, inside, _) in pieces(offset, len) {
            if inside.len() == BLOCK_LEN {
                self.blocks.remove(&index);
            } else if let Some(block) = self.blocks.get_mut(&index) {
                Arc::make_mut(block)[inside].fill(0);
            }
        }
    }

    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let found = self.blocks.range(offset / LEN..).next();
        found.map(|(&index, _)| offset.max(index * LEN)).filter(|&at| at < self.size)
    }

    pub fn next_hole(&self, offset: u64) -> Option<u64> {
        let end = self.size.div_ceil(LEN);
        let hole = (offset / LEN..end).find(|index| !self.blocks.contains_key(index));
        let at = hole.map_or(self.size, |index| offset.max(index * LEN));
        (offset < self.size).then_some(at)
    }

    fn zero_past_end(&mut self) {
        let inside = (self.size % LEN) as usize;
        if inside > 0
            && let Some(block) = self.blocks.get_mut(&(self.size / LEN))
            && block[inside..].iter().any(|&byte| byte != 0)
        {
            Arc::make_mut(block)[inside..].fill(0);
        }
    }
}

type Range = std::ops::Range<usize>;

/// The blocks that `len` bytes from `offset` lie in: index, range in the block, range in the bytes.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, Range, Range)> {
    let end = offset + len as u64;
    let blocks = offset / LEN..if len == 0 { offset / LEN } else { (end - 1) / LEN + 1 };
    blocks.map(move |index| {
        let (from, to) = (offset.max(index * LEN), end.min((index + 1) * LEN));
        let inside = (from - index * LEN) as usize..(to - index * LEN) as usize;
        (index, inside, (from - offset) as usize..(to - offset) as usize)
    })
}
