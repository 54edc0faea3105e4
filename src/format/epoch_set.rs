//! Mounts out of all there were, as ranges.

use serde::{Deserialize, Serialize};

use super::Epoch;

/// A set of epochs: ranges, first and last included, apart and in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EpochSet(Vec<(Epoch, Epoch)>);

impl EpochSet {
    /// Adds an epoch. None that is added later is older.
    pub fn push(&mut self, epoch: Epoch) {
        match self.0.last_mut() {
            Some((_, last)) if last.0.saturating_add(1) >= epoch.0 => *last = epoch.max(*last),
            _ => self.0.push((epoch, epoch)),
        }
    }

    /// Merges the oldest ranges, and the epochs between them, until at most `most` are left.
    pub fn limit(&mut self, most: usize) {
        let excess = self.0.len().saturating_sub(most.max(1));
        if let (true, Some(&(first, _))) = (excess > 0, self.0.first()) {
            self.0.drain(..excess);
            self.0[0].0 = first;
        }
    }

    /// Whether `epoch` is in it.
    pub fn contains(&self, epoch: Epoch) -> bool {
        self.0.iter().any(|&(first, last)| (first..=last).contains(&epoch))
    }

    /// The newest.
    pub fn last(&self) -> Option<Epoch> {
        self.0.last().map(|&(_, last)| last)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts of the range from `first` to `last` that are not in it.
    pub fn outside(&self, first: Epoch, last: Epoch) -> Vec<(Epoch, Epoch)> {
        let (mut outside, mut next) = (Vec::new(), first.0);
        for &(begin, end) in &self.0 {
            if next < begin.0 && next <= last.0 {
                outside.push((Epoch(next), Epoch(last.0.min(begin.0 - 1))));
            }
            next = next.max(end.0.saturating_add(1));
        }
        if next <= last.0 {
            outside.push((Epoch(next), last));
        }
        outside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(epochs: &[u64]) -> EpochSet {
        let mut set = EpochSet::default();
        epochs.iter().for_each(|epoch| set.push(Epoch(*epoch)));
        set
    }

    #[test]
    fn what_is_outside_is_what_is_not_inside() {
        let set = set(&[2, 3, 6, 7, 7, 11]);
        assert_eq!(set.0.len(), 3);
        for (first, last) in (0..14).flat_map(|first| (0..14).map(move |last| (first, last))) {
            let outside = set.outside(Epoch(first), Epoch(last));
            let found: Vec<_> = outside.iter().flat_map(|(a, b)| a.0..=b.0).collect();
            let wanted: Vec<_> = (first..=last).filter(|e| !set.contains(Epoch(*e))).collect();
            assert_eq!(found, wanted, "{first} to {last}");
        }
    }

    #[test]
    fn the_oldest_ranges_become_one() {
        let mut set = set(&[1, 3, 5, 7]);
        set.limit(4);
        assert!(!set.contains(Epoch(2)));
        set.limit(2);
        assert_eq!(set.0, [(Epoch(1), Epoch(5)), (Epoch(7), Epoch(7))]);
    }
}
