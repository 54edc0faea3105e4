//! The mounts of a vault, with which a trail is compared.

use crate::format::{Epoch, EpochSet};

/// The mounts of a vault, by records that it keeps beside the trail and its checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    /// The newest.
    pub newest: Epoch,
    /// Whether it ended cleanly.
    pub ended: bool,
    /// Mounts of which the trail needs no line: they served no request, or kept no trail on purpose.
    pub without_line: EpochSet,
}

impl Mounts {
    /// Whether the trail needs no line of any mount.
    pub(super) fn need_no_lines(&self) -> bool {
        self.without_line.outside(Epoch(1), self.newest).is_empty()
    }
}

/// "mount 1 has" or "mounts 1 to 3 have".
pub(super) fn mounts_have(first: Epoch, last: Epoch) -> String {
    if first == last {
        format!("mount {} has", first.0)
    } else {
        format!("mounts {} to {} have", first.0, last.0)
    }
}
