//! Every file that a crash can leave of what was written since the last sync.
//!
//! The assumption about the media, as the format chapter states it: a block reaches the disk
//! whole, at any point of its own history, whatever becomes of other blocks; sizes reach it in
//! their own order; and a shrink goes before what is written later into the range that it took
//! away. So a block may be newer than the size, and then part of it lies past the last block.

use std::collections::BTreeSet;
use std::sync::Arc;

use atrest::format::BLOCK_LEN;
use rand::{Rng, RngExt};

use super::disk::{Event, Interval};
use crate::common_store::{Block, Image};

type Version = Option<Arc<Block>>;

/// The states of a crash whose sizes got as far as one of them.
struct Group {
    size: u64,
    /// For each block below the size that has more than one, its possible versions.
    open: Vec<(u64, Vec<Version>)>,
    /// The file with the first version of each block.
    base: Image,
}

impl Interval {
    /// Calls `each` with every state a crash can leave, or with `most` of them at random where
    /// there are more, the oldest and the newest of each block among them.
    pub fn each_state(&self, most: usize, rng: &mut impl Rng, mut each: impl FnMut(Image)) {
        let sizes = self.events.iter().filter(|event| matches!(event, Event::Size(_))).count();
        let groups: Vec<_> = (0..=sizes).map(|reached| self.group(reached)).collect();
        let total = groups.iter().fold(0usize, |all, group| all.saturating_add(group.count()));
        for group in &groups {
            let count = group.count();
            let share = if total <= most { count } else { (most / groups.len()).max(2) };
            let picks: Vec<Option<usize>> = match share < count {
                false => (0..count).map(Some).collect(),
                true => {
                    [Some(0), Some(count - 1)].into_iter().chain((2..share).map(|_| None)).collect()
                }
            };
            for pick in picks {
                each(group.state(pick, rng));
            }
        }
    }

    /// The states in which the first `reached` of the new sizes have reached the disk.
    fn group(&self, reached: usize) -> Group {
        let mut sizes = self.events.iter().filter_map(|event| match event {
            Event::Size(size) => Some(*size),
            Event::Block(..) => None,
        });
        let size = match reached {
            0 => self.durable.size(),
            _ => sizes.nth(reached - 1).unwrap(),
        };
        let written = self.events.iter().filter_map(|event| match event {
            Event::Block(index, _) => Some(*index),
            Event::Size(_) => None,
        });
        let indices: BTreeSet<u64> = self.durable.indices().chain(written).collect();
        let mut base = Image::default();
        base.set_len(size);
        let mut open = Vec::new();
        for index in indices.into_iter().filter(|index| index * (BLOCK_LEN as u64) < size) {
            let versions = self.versions(index, reached, size);
            base.put(index, versions[0].clone());
            if versions.len() > 1 {
                open.push((index, versions));
            }
        }
        Group { size, open, base }
    }

    /// What the block at `index` may be on the disk, oldest first.
    fn versions(&self, index: u64, reached: usize, size: u64) -> Vec<Version> {
        let mut versions = vec![self.durable.block(index).cloned()];
        let mut sizes = 0;
        for event in &self.events {
            match event {
                Event::Size(size) => {
                    sizes += 1;
                    if *size <= index * BLOCK_LEN as u64 {
                        if sizes > reached {
                            break;
                        }
                        versions = vec![None];
                    }
                }
                Event::Block(at, version) if *at == index => versions.push(version.clone()),
                Event::Block(..) => {}
            }
        }
        let inside = (size - index * BLOCK_LEN as u64).min(BLOCK_LEN as u64) as usize;
        let mut distinct: Vec<Version> = Vec::new();
        for version in versions {
            if !distinct.iter().any(|one| visible(one, inside) == visible(&version, inside)) {
                distinct.push(version);
            }
        }
        distinct
    }
}

impl Group {
    fn count(&self) -> usize {
        self.open.iter().fold(1usize, |all, (_, versions)| all.saturating_mul(versions.len()))
    }

    /// The state of this number, or a random one.
    fn state(&self, pick: Option<usize>, rng: &mut impl Rng) -> Image {
        let mut image = self.base.clone();
        let mut rest = pick;
        for (index, versions) in &self.open {
            let choice = match &mut rest {
                None => rng.random_range(0..versions.len()),
                Some(rest) => {
                    let choice = *rest % versions.len();
                    *rest /= versions.len();
                    choice
                }
            };
            image.put(*index, versions[choice].clone());
        }
        assert_eq!(image.size(), self.size);
        image
    }
}

/// The first `len` bytes of a version, a hole being zeros.
fn visible(version: &Version, len: usize) -> &[u8] {
    const ZEROS: &Block = &[0; BLOCK_LEN];
    &version.as_deref().unwrap_or(ZEROS)[..len]
}
