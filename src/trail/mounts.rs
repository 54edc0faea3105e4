//! What the vault's record of mounts says of those that the trail tells of.

use crate::format::{Epoch, EpochSet};

/// The mounts of a vault, by what it keeps apart from the trail and its record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The newest.
    pub newest: Epoch,
    /// It ended cleanly.
    pub ended: bool,
    /// Those of which the trail need have no line: they served nobody, or were told to keep no trail.
    pub without_line: EpochSet,
}

impl Mounts {
    /// None of them left a line that can be missed.
    pub(super) fn need_no_lines(&self) -> bool {
        self.without_line.outside(Epoch(1), self.newest).is_empty()
    }
}

/// A range of mounts, in words.
pub(super) fn range((first, last): (Epoch, Epoch)) -> String {
    match first == last {
        true => format!("mount {} has", first.0),
        false => format!("mounts {} to {} have", first.0, last.0),
    }
}
