//! What an open vault knows of its age.

use super::freshness::Watch;
use super::marks::{Marks, TrailMark};
use super::{CheckpointFile, EpochRecord};
use crate::format::Epoch;
use crate::keys::KeyRing;
use crate::sys::Show;
use crate::trail::Checkpoint;

/// What shows later that the vault was put back.
#[derive(Debug)]
pub(super) struct Watched {
    pub watch: Option<Watch>,
    pub marks: Marks,
    /// Why this machine can't keep what it knows.
    pub failing: Option<String>,
    /// The newest state of the key file whose keys are in force.
    pub in_force: u64,
    /// The mount has ended cleanly: nothing more is written of it.
    pub ended: bool,
}

impl Watched {
    /// Has the vault's marks say which mount this machine is known to have been told of.
    pub fn note_told(&mut self) {
        if let Some(watch) = &self.watch {
            watch.note_told(&mut self.marks);
        }
    }

    /// Has this machine keep how far the vault has come. Without that the vault can be used; an older
    /// state of it is only found out later, or not.
    pub fn note(&mut self, epochs: &EpochRecord) {
        let Some(watch) = &mut self.watch else { return };
        self.failing = watch.note(epochs, &self.marks).err().map(|error| error.to_string());
        if let Some(reason) = &self.failing {
            let path = watch.path();
            log::warn!(
                "what this machine knows of the vault can't be kept in {}: {reason}",
                path.shown()
            );
        }
    }
}

/// How far the trail has come, and the newest mount that it knows of, by a record of it that is
/// authentic.
pub(super) fn trail_mark(seal: &CheckpointFile, ring: &KeyRing) -> Option<(TrailMark, Epoch)> {
    let seal = Checkpoint::read(seal, &ring.trail_keys()?).ok()??;
    let (head, directory) = (seal.head.to_string(), seal.directory.to_string_lossy().into_owned());
    let link = head.split_once(':')?.1.to_owned();
    Some((TrailMark { last: seal.head.sequence, link, directory }, seal.epoch))
}
