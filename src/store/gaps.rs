//! Which blocks of an open file may be holes.

use crate::format::{BlockIndex, BlockSpan, HoleExtents, Holes};

/// A set of block ranges, apart and in order. Block 0, which holds the header, is never in it.
#[derive(Debug, Default)]
pub struct Gaps {
    spans: Vec<BlockSpan>,
    /// Blocks of the set that may hold content, at most.
    uncertain: u64,
    /// Counts the changes of the set.
    version: u64,
}

impl Gaps {
    /// More ranges than this are not kept apart: the two closest become one.
    const LIMIT: usize = 1024;

    /// The blocks that a header lists.
    pub fn listed(holes: &Holes) -> Self {
        let spans = holes.extents.spans().to_vec();
        Self { spans, uncertain: holes.uncertain.into(), version: 0 }
    }

    /// The field of a header that lists them.
    pub fn to_holes(&self, durable: u64) -> Holes {
        if self.spans.is_empty() {
            return Holes { durable, ..Holes::default() };
        }
        let (extents, added) = HoleExtents::covering(&self.spans);
        let uncertain = self.uncertain.saturating_add(added);
        Holes { extents, uncertain: uncertain.try_into().unwrap_or(u32::MAX), durable }
    }

    /// The ranges.
    pub fn spans(&self) -> &[BlockSpan] {
        &self.spans
    }

    /// How many changes there were: two sets of one file are the same if this is.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether some of the blocks may hold content.
    pub fn is_uncertain(&self) -> bool {
        self.uncertain > 0
    }

    /// How many of the blocks may hold content, at most.
    pub fn uncertain(&self) -> u64 {
        self.uncertain
    }

    /// Whether `index` lies in one.
    pub fn contains(&self, index: BlockIndex) -> bool {
        self.covers(BlockSpan::one(index))
    }

    /// Whether all of `span` lies in one of the ranges.
    pub fn covers(&self, span: BlockSpan) -> bool {
        let at = self.spans.partition_point(|gap| gap.end <= span.first);
        let inside = |gap: &BlockSpan| gap.first <= span.first && span.end <= gap.end;
        span.count() == 0 || self.spans.get(at).is_some_and(inside)
    }

    /// Adds `span`, which is a hole.
    pub fn add(&mut self, span: BlockSpan) {
        let span = BlockSpan { first: span.first.max(BlockIndex(1)), ..span };
        if span.count() == 0 || self.covers(span) {
            return;
        }
        let from = self.spans.partition_point(|gap| gap.end < span.first);
        let to = self.spans.partition_point(|gap| gap.first <= span.end);
        let merged = self.spans[from..to].iter().fold(span, |all, gap| BlockSpan {
            first: all.first.min(gap.first),
            end: all.end.max(gap.end),
        });
        self.spans.splice(from..to, [merged]);
        self.version += 1;
        if self.spans.len() > Self::LIMIT {
            self.merge_closest();
        }
    }

    /// Adds `span`, of which any block may be a hole.
    pub fn add_uncertain(&mut self, span: BlockSpan) {
        self.add(span);
        self.mark_uncertain(span);
    }

    /// Any block of the set in `span` may hold content after all.
    pub fn mark_uncertain(&mut self, span: BlockSpan) {
        let from = self.spans.partition_point(|gap| gap.end <= span.first);
        let within = self.spans[from..].iter().take_while(|gap| gap.first < span.end);
        let blocks = within.map(|gap| gap.end.min(span.end).0 - gap.first.max(span.first).0);
        let blocks: u64 = blocks.sum();
        if blocks > 0 {
            self.uncertain = self.uncertain.saturating_add(blocks);
            self.version += 1;
        }
    }

    /// Any block of the set may hold content after all.
    pub fn mark_all_uncertain(&mut self) {
        self.uncertain = self.spans.iter().map(|span| span.count()).sum();
    }

    /// Takes `span` out: it has been written, or cut away. Returns its first block that was in.
    pub fn remove(&mut self, span: BlockSpan) -> Option<BlockIndex> {
        if self.spans.is_empty() || span.count() == 0 {
            return None;
        }
        let from = self.spans.partition_point(|gap| gap.end <= span.first);
        let to = self.spans.partition_point(|gap| gap.first < span.end);
        let found = self.spans[from..to].first()?.first.max(span.first);
        let left: Vec<_> = self.spans[from..to]
            .iter()
            .flat_map(|gap| {
                [
                    BlockSpan { first: gap.first, end: gap.end.min(span.first) },
                    BlockSpan { first: gap.first.max(span.end), end: gap.end },
                ]
            })
            .filter(|gap| gap.count() > 0)
            .collect();
        self.spans.splice(from..to, left);
        self.version += 1;
        if self.spans.is_empty() {
            self.uncertain = 0;
        } else if self.spans.len() > Self::LIMIT {
            self.merge_closest();
        }
        Some(found)
    }

    /// Leaves the blocks that `others` has too.
    pub fn intersect(&mut self, others: &[BlockSpan]) {
        let mut spans = Vec::new();
        for gap in &self.spans {
            let from = others.partition_point(|other| other.end <= gap.first);
            let common = others[from..].iter().take_while(|other| other.first < gap.end);
            spans.extend(common.map(|other| BlockSpan {
                first: gap.first.max(other.first),
                end: gap.end.min(other.end),
            }));
        }
        self.spans = spans;
        self.version += 1;
    }

    /// All blocks were examined since [`Gaps::uncertain`] returned `uncertain`.
    pub fn resolve(&mut self, uncertain: u64) {
        if uncertain > 0 {
            self.uncertain = self.uncertain.saturating_sub(uncertain);
            self.version += 1;
        }
    }

    fn merge_closest(&mut self) {
        let between = |at: &usize| self.spans[at + 1].first.0 - self.spans[*at].end.0;
        if let Some(at) = (0..self.spans.len() - 1).min_by_key(between) {
            self.uncertain = self.uncertain.saturating_add(between(&at));
            self.spans[at].end = self.spans.remove(at + 1).end;
        }
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
            let (before, version) = (model, gaps.version());
            if add {
                gaps.add(span(first, end));
            } else {
                let found = (first..end).find(|&index| model[index as usize]);
                assert_eq!(gaps.remove(span(first, end)), found.map(BlockIndex));
            }
            model[first as usize..end as usize].fill(add);
            model[0] = false;
            for (index, &expected) in model.iter().enumerate() {
                assert_eq!(gaps.contains(BlockIndex(index as u64)), expected);
            }
            assert_eq!(gaps.spans().is_empty(), !model.contains(&true));
            assert_eq!(gaps.version() == version, before == model);
            assert!(!gaps.is_uncertain());
        }
    }

    #[test]
    fn too_many_become_more_gap_never_less() {
        let mut gaps = Gaps::default();
        for index in 0..2 * Gaps::LIMIT as u64 {
            gaps.add(span(4 * index + 1, 4 * index + 2));
        }
        assert!((0..2 * Gaps::LIMIT as u64).all(|index| gaps.contains(BlockIndex(4 * index + 1))));
        assert!(gaps.spans().len() == Gaps::LIMIT && gaps.is_uncertain());
    }

    #[test]
    fn what_two_sets_have_in_common() {
        let mut gaps = Gaps::default();
        for gap in [span(1, 5), span(7, 9), span(20, 30)] {
            gaps.add(gap);
        }
        gaps.intersect(&[span(2, 3), span(4, 8), span(25, 26)]);
        assert_eq!(gaps.spans(), [span(2, 3), span(4, 5), span(7, 8), span(25, 26)]);
    }
}
