//! Where plaintext lies in a vault file: the arithmetic of blocks and lengths.

/// Bytes of a block in the vault.
pub const BLOCK_LEN: usize = 4096;
/// Bytes of the header at the start of block 0.
pub const HEADER_LEN: usize = 256;
/// Plaintext bytes that block 0 holds at most.
pub const FIRST_CAPACITY: usize = NEXT_CAPACITY - HEADER_LEN;
/// Plaintext bytes that a block after the first holds at most: 4096 less nonce, `n`, flags, tag.
pub const NEXT_CAPACITY: usize = BLOCK_LEN - 12 - 4 - 16;

/// The number of a block in its file, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockIndex(pub u64);

impl BlockIndex {
    /// The block that holds the plaintext byte at `offset`.
    pub fn of(offset: u64) -> Self {
        match offset.checked_sub(FIRST_CAPACITY as u64) {
            None => Self(0),
            Some(rest) => Self(1 + rest / NEXT_CAPACITY as u64),
        }
    }

    /// The plaintext offset of the block's first byte.
    pub fn start(self) -> u64 {
        match self.0.checked_sub(1) {
            None => 0,
            Some(before) => FIRST_CAPACITY as u64 + before * NEXT_CAPACITY as u64,
        }
    }

    /// Plaintext bytes that the block holds at most.
    pub fn capacity(self) -> usize {
        if self.0 == 0 { FIRST_CAPACITY } else { NEXT_CAPACITY }
    }

    /// The plaintext offset behind the block's last byte.
    pub fn end(self) -> u64 {
        self.start() + self.capacity() as u64
    }

    /// The block's offset in the vault file.
    pub fn stored(self) -> u64 {
        self.0 * BLOCK_LEN as u64
    }

    /// The next block.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Whole blocks from `first` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSpan {
    /// The first block.
    pub first: BlockIndex,
    /// The block behind the last one.
    pub end: BlockIndex,
}

impl BlockSpan {
    /// All blocks there can be.
    pub const ALL: Self = Self { first: BlockIndex(0), end: BlockIndex(u64::MAX) };

    /// The blocks that hold any of `len` plaintext bytes from `offset`; none for `len` 0.
    pub fn covering(offset: u64, len: u64) -> Self {
        let first = BlockIndex::of(offset);
        let end = match len {
            0 => first,
            _ => BlockIndex::of(offset + len - 1).next(),
        };
        Self { first, end }
    }

    /// The blocks of a file of `len` plaintext bytes.
    pub fn of_len(len: u64) -> Self {
        Self::covering(0, len)
    }

    /// One block.
    pub fn one(index: BlockIndex) -> Self {
        Self { first: index, end: index.next() }
    }

    /// How many blocks.
    pub fn count(self) -> u64 {
        self.end.0.saturating_sub(self.first.0)
    }

    /// Each block in turn.
    pub fn iter(self) -> impl Iterator<Item = BlockIndex> {
        (self.first.0..self.end.0).map(BlockIndex)
    }
}

/// The `st_size` of a vault file that holds `len` plaintext bytes.
pub fn stored_len(len: u64) -> u64 {
    match len.checked_sub(1) {
        None => 0,
        Some(last_byte) => {
            let last = BlockIndex::of(last_byte);
            last.next().stored() + (len - last.start())
        }
    }
}

/// The length of a vault file by its `st_size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredLen {
    /// The plaintext length in bytes.
    Exact(u64),
    /// A shrink was interrupted: the length is where the content of this last block ends.
    InBlock(BlockIndex),
}

/// A size that no sealed file has: something that was not sealed lies in the vault, or a sealed
/// file was cut or extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a size of {0} bytes is not that of a sealed file")]
pub struct UnsealedLength(pub u64);

impl StoredLen {
    /// Reads the `st_size` of a vault file.
    ///
    /// # Errors
    /// [`UnsealedLength`] when no sealed file can be of that size.
    pub fn from_stored(size: u64) -> Result<Self, UnsealedLength> {
        let (blocks, rest) = (size / BLOCK_LEN as u64, size % BLOCK_LEN as u64);
        let Some(last) = blocks.checked_sub(1).map(BlockIndex) else {
            return if rest == 0 { Ok(Self::Exact(0)) } else { Err(UnsealedLength(size)) };
        };
        match rest {
            0 => Ok(Self::InBlock(last)),
            _ if rest <= last.capacity() as u64 => Ok(Self::Exact(last.start() + rest)),
            _ => Err(UnsealedLength(size)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const F: u64 = FIRST_CAPACITY as u64;
    const N: u64 = NEXT_CAPACITY as u64;

    #[test]
    fn capacities_are_those_of_the_format() {
        assert_eq!((FIRST_CAPACITY, NEXT_CAPACITY), (3808, 4064));
    }

    #[test]
    fn offsets_at_every_boundary() {
        for (offset, block) in
            [(0, 0), (1, 0), (F - 1, 0), (F, 1), (F + 1, 1), (F + N - 1, 1), (F + N, 2)]
        {
            let index = BlockIndex::of(offset);
            assert_eq!(index.0, block, "offset {offset}");
            assert!((index.start()..index.end()).contains(&offset));
        }
        assert_eq!(BlockIndex(2).start(), F + N);
        assert_eq!(BlockIndex(1).end(), BlockIndex(2).start());
    }

    #[test]
    fn stored_lengths_at_every_boundary() {
        for (len, stored) in [
            (0, 0),
            (1, 4097),
            (F - 1, 4096 + F - 1),
            (F, 4096 + F),
            (F + 1, 8193),
            (F + N, 8192 + N),
            (F + N + 1, 3 * 4096 + 1),
        ] {
            assert_eq!(stored_len(len), stored, "length {len}");
            assert_eq!(StoredLen::from_stored(stored), Ok(StoredLen::Exact(len)));
        }
    }

    #[test]
    fn every_length_reads_back() {
        for len in 0..4 * 4096 {
            assert_eq!(StoredLen::from_stored(stored_len(len)), Ok(StoredLen::Exact(len)));
        }
    }

    #[test]
    fn sizes_of_no_sealed_file() {
        for size in [1, 4095, 4096 + F + 1, 8191, 8192 + N + 1, 3 * 4096 - 1] {
            assert_eq!(StoredLen::from_stored(size), Err(UnsealedLength(size)));
        }
        assert_eq!(StoredLen::from_stored(8192), Ok(StoredLen::InBlock(BlockIndex(1))));
    }

    #[test]
    fn spans_cover_what_they_say() {
        let span = BlockSpan::covering(F - 1, 2);
        assert_eq!((span.first.0, span.end.0), (0, 2));
        assert_eq!(BlockSpan::covering(F, N).count(), 1);
        assert_eq!(BlockSpan::covering(17, 0).count(), 0);
        assert_eq!(BlockSpan::of_len(F + N).count(), 2);
    }
}
