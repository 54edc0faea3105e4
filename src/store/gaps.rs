//! Which blocks of an open file were never written: the holes that it may have.

use crate::format::{BlockIndex, BlockSpan};

/// A set of block ranges, apart and in order.
#[derive(Debug, Default)]
pub struct Gaps(Vec<BlockSpan>);

impl Gaps {
    /// More ranges than this are not kept apart; what lies between them counts as gap too.
    const LIMIT: usize = 1024;

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `index` lies in one.
    pub fn contains(&self, index: BlockIndex) -> bool {
        let at = self.0.partition_point(|gap| gap.end <= index);
        self.0.get(at).is_some_and(|gap| gap.first <= index)
    }

    /// Adds `span`.
    pub fn add(&mut self, span: BlockSpan) {
        if span.count() == 0 {
            return;
        }
        let from = self.0.partition_point(|gap| gap.end < span.first);
        let to = self.0.partition_point(|gap| gap.first <= span.end);
        let merged = self.0[from..to].iter().fold(span, |all, gap| BlockSpan {
            first: all.first.min(gap.first),
            end: all.end.max(gap.end),
        });
        self.0.splice(from..to, [merged]);
        if let (true, [first, .., last]) = (self.0.len() > Self::LIMIT, self.0.as_slice()) {
            self.0 = vec![BlockSpan { first: first.first, end: last.end }];
        }
    }

    /// Takes `span` out: it has been written, or cut away.
    pub fn remove(&mut self, span: BlockSpan) {
        if self.0.is_empty() || span.count() == 0 {
            return;
        }
        let from = self.0.partition_point(|gap| gap.end <= span.first);
        let to = self.0.partition_point(|gap| gap.first < span.end);
        let left: Vec<_> = self.0[from..to]
            .iter()
            .flat_map(|gap| {
                [
                    BlockSpan { first: gap.first, end: gap.end.min(span.first) },
                    BlockSpan { first: gap.first.max(span.end), end: gap.end },
                ]
            })
            .filter(|gap| gap.count() > 0)
            .collect();
        self.0.splice(from..to, left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(first: u64, end: u64) -> BlockSpan {
        BlockSpan { first: BlockIndex(first), end: BlockIndex(end) }
    }

    #[test]
    fn agrees_with_a_plain_set() {
        let mut gaps = Gaps::default();
        let mut model = [false; 64];
        let mut seed = 1u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (first, len, add) =
                ((seed >> 33) % 60, (seed >> 40) % 5, (seed >> 50).is_multiple_of(2));
            let end = (first + len).min(64);
            if add {
                gaps.add(span(first, end))
            } else {
                gaps.remove(span(first, end))
            }
            model[first as usize..end as usize].fill(add);
            for (index, &expected) in model.iter().enumerate() {
                assert_eq!(gaps.contains(BlockIndex(index as u64)), expected);
            }
            assert_eq!(gaps.is_empty(), !model.contains(&true));
        }
    }

    #[test]
    fn too_many_collapse_to_more_gap_never_less() {
        let mut gaps = Gaps::default();
        for index in 0..2 * Gaps::LIMIT as u64 {
            gaps.add(span(4 * index, 4 * index + 1));
        }
        assert!((0..2 * Gaps::LIMIT as u64).all(|index| gaps.contains(BlockIndex(4 * index))));
    }
}
