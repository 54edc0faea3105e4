//! Hole extents: the blocks of a file that may be holes, as its header lists them.
//!
//! Each extent is a pair of LEB128 numbers: how many blocks lie between the end of the extent
//! before it (block 1 for the first one) and its own start, and its length in blocks, at least 1.
//! Zeros fill the rest of the field. Block 0 holds the header and is never a hole.

use super::{BlockIndex, BlockSpan};

/// Bytes of the field.
pub const EXTENTS_LEN: usize = 72;
/// Blocks are numbered below this: 2^52 blocks are more than the longest file has.
const BLOCK_LIMIT: u64 = 1 << 52;
/// More extents than this never fit: each takes two bytes at least.
const MOST: usize = EXTENTS_LEN / 2;

/// Ranges of blocks, in order, not empty and not adjacent; as many as a header has room for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HoleExtents(Vec<BlockSpan>);

impl HoleExtents {
    /// The extents that hold all of `spans`, which are in order and apart, and how many blocks
    /// they hold besides. Where the spans are more than fit, those with the least between them
    /// are merged.
    pub fn covering(spans: &[BlockSpan]) -> (Self, u64) {
        let exact = Self(spans.to_vec());
        if exact.0.len() <= MOST && exact.encode().is_some() {
            return (exact, 0);
        }
        let mut splits: Vec<usize> = (1..spans.len()).collect();
        splits.sort_by_key(|&at| std::cmp::Reverse(spans[at].first.0 - spans[at - 1].end.0));
        for kept in (0..splits.len().min(MOST)).rev() {
            let merged = Self::split_at(spans, &splits[..kept]);
            if merged.encode().is_some() {
                let added = merged.count() - spans.iter().map(|span| span.count()).sum::<u64>();
                return (merged, added);
            }
        }
        // One extent always fits; not reached.
        (Self(vec![BlockSpan { first: BlockIndex(1), end: BlockIndex(BLOCK_LIMIT) }]), u64::MAX)
    }

    /// `spans` merged but where one of these numbers begins a new extent.
    fn split_at(spans: &[BlockSpan], splits: &[usize]) -> Self {
        let mut merged: Vec<BlockSpan> = Vec::with_capacity(splits.len() + 1);
        for (at, span) in spans.iter().enumerate() {
            match merged.last_mut() {
                Some(last) if !splits.contains(&at) => last.end = span.end,
                _ => merged.push(*span),
            }
        }
        Self(merged)
    }

    /// The ranges.
    pub fn spans(&self) -> &[BlockSpan] {
        &self.0
    }

    /// How many blocks the extents hold.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|span| span.count()).sum()
    }

    /// The field's bytes.
    pub(super) fn to_bytes(&self) -> [u8; EXTENTS_LEN] {
        self.encode().unwrap_or([0; EXTENTS_LEN])
    }

    /// Reads the field; `None` where no extents are written so.
    pub(super) fn parse(bytes: &[u8; EXTENTS_LEN]) -> Option<Self> {
        let mut rest = &bytes[..];
        let mut spans: Vec<BlockSpan> = Vec::new();
        while rest.iter().any(|&byte| byte != 0) {
            let end = spans.last().map_or(1, |span| span.end.0);
            let (gap, length) = (decode(&mut rest)?, decode(&mut rest)?);
            if length == 0 || (gap == 0 && !spans.is_empty()) || end + gap + length > BLOCK_LIMIT {
                return None;
            }
            let first = BlockIndex(end + gap);
            spans.push(BlockSpan { first, end: BlockIndex(first.0 + length) });
        }
        Some(Self(spans))
    }

    /// The field's bytes; `None` where there is no room.
    fn encode(&self) -> Option<[u8; EXTENTS_LEN]> {
        let mut bytes = [0; EXTENTS_LEN];
        let (mut at, mut end) = (0, 1);
        for span in &self.0 {
            for number in [span.first.0 - end, span.count()] {
                let mut left = number;
                loop {
                    let low = (left & 0x7f) as u8;
                    left >>= 7;
                    *bytes.get_mut(at)? = low | if left > 0 { 0x80 } else { 0 };
                    at += 1;
                    if left == 0 {
                        break;
                    }
                }
            }
            end = span.end.0;
        }
        Some(bytes)
    }
}

/// One number at the front of `bytes`, in its shortest form and at most [`BLOCK_LIMIT`].
fn decode(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..).step_by(7).take(8) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let shortest = byte != 0 || shift == 0;
            return (shortest && number <= BLOCK_LIMIT).then_some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(pairs: &[(u64, u64)]) -> Vec<BlockSpan> {
        let span = |&(first, end)| BlockSpan { first: BlockIndex(first), end: BlockIndex(end) };
        pairs.iter().map(span).collect()
    }

    #[test]
    fn extents_read_back() {
        for pairs in [
            &[][..],
            &[(1, 2)],
            &[(2, 3), (4, 5)],
            &[(127, 128), (128 + 127, 128 + 127 + 128)],
            &[(1, BLOCK_LIMIT)],
            &[(BLOCK_LIMIT - 1, BLOCK_LIMIT)],
            &[(1, 1 << 50), (1 << 51, BLOCK_LIMIT - 1)],
        ] {
            let (extents, added) = HoleExtents::covering(&spans(pairs));
            assert_eq!((extents.spans(), added), (&spans(pairs)[..], 0));
            assert_eq!(HoleExtents::parse(&extents.to_bytes()), Some(extents));
        }
    }

    #[test]
    fn more_than_fit_are_merged_where_they_are_closest() {
        let apart = |number: u64| 10_000 * number + if number.is_multiple_of(2) { 0 } else { 9 };
        let all: Vec<_> = (1..200).map(|number| (apart(number), apart(number) + 3)).collect();
        let all = spans(&all);
        let (extents, added) = HoleExtents::covering(&all);
        let inside =
            |span: &BlockSpan, one: &BlockSpan| one.first <= span.first && span.end <= one.end;
        for span in &all {
            assert!(extents.spans().iter().any(|one| inside(span, one)), "{span:?} is not covered");
        }
        assert_eq!(extents.count(), 3 * 199 + added);
        assert!(extents.spans().len() >= 12 && added > 0);
        assert_eq!(HoleExtents::parse(&extents.to_bytes()), Some(extents));
        let close = spans(&(1..40).map(|n| (1000 * n, 1000 * n + 998)).collect::<Vec<_>>());
        let far = spans(&[(1_000_000, 1_000_001)]);
        let (extents, _) = HoleExtents::covering(&[close, far].concat());
        assert_eq!(extents.spans().last(), Some(&spans(&[(1_000_000, 1_000_001)])[0]));
    }

    #[test]
    fn what_is_not_written_so_is_refused() {
        let field = |bytes: &[u8]| {
            let mut field = [0; EXTENTS_LEN];
            field[..bytes.len()].copy_from_slice(bytes);
            field
        };
        let bad: [&[u8]; 7] = [
            &[3],                                                 // no blocks
            &[0, 1, 0, 1],                                        // adjacent
            &[0, 0, 0, 1],                                        // zeros between
            &[0x80, 0, 1],                                        // not the shortest form
            &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], // past the last block
            &[0xff; EXTENTS_LEN],
            &[0x80; EXTENTS_LEN],
        ];
        for bytes in bad {
            assert_eq!(HoleExtents::parse(&field(bytes)), None, "{bytes:?}");
        }
    }
}
