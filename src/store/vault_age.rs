//! What an open vault and this machine keep of each other, and what the mount's root shows.

use std::io;
use std::path::PathBuf;

use super::freshness::{Freshness, Watch, default_place, newest_key_file};
use super::marks::{Marks, TrailMark};
use super::{Access, EpochRecord, RootAttrs, TrailSeal, Vault, VaultError, state};
use crate::format::Epoch;
use crate::keys::KeyRing;
use crate::keys::trail::Seal;
use crate::sys::Show;

/// What shows later that the vault was put back.
#[derive(Debug)]
pub(super) struct Watched {
    pub watch: Option<Watch>,
    pub marks: Marks,
}

/// Without it the vault can be used; an older state of it is only found out later, or not.
pub(super) fn note_seen(watch: &mut Option<Watch>, epochs: &EpochRecord, marks: &Marks) {
    if let Some(watch) = watch
        && let Err(error) = watch.note(epochs, marks)
    {
        let path = watch.path();
        log::warn!(
            "what this machine knows of the vault can't be kept in {}: {error}",
            path.shown()
        );
    }
}

/// How far the trail has come, and the newest mount that it knows of, by a record of it that is
/// authentic.
pub(super) fn trail_mark(seal: &TrailSeal, ring: &KeyRing) -> Option<(TrailMark, Epoch)> {
    let seal = Seal::read(seal, &ring.trail_keys()?).ok()??;
    let (head, directory) = (seal.head.to_string(), seal.directory.to_string_lossy().into_owned());
    let link = head.split_once(':')?.1.to_owned();
    Some((TrailMark { last: seal.head.sequence, link, directory }, seal.epoch))
}

impl Vault {
    /// Marks the clean end of a mount, with how far its trail has come.
    pub(super) fn note_clean_end(&self) -> Result<(), VaultError> {
        let mut watched = self.watched.lock();
        let Watched { watch, marks } = &mut *watched;
        let seal = TrailSeal::over(&self.own, self.access)?;
        // A mount without a trail leaves the one that there was.
        let trail = trail_mark(&seal, &self.context.ring()).map(|(mark, _)| mark);
        marks.trail = trail.or_else(|| marks.trail.take());
        let ended = self.context.epochs_at_end();
        if let Some((id, told)) = watch.as_ref().and_then(Watch::told) {
            marks.note_told(id, told);
        }
        state::write(&self.own, &self.keys().state, &ended, marks)?;
        note_seen(watch, &ended, marks);
        Ok(())
    }

    /// The key file has been written so often by now: what is older is not to be used with the vault
    /// again.
    pub fn note_key_file(&self, generation: u64) {
        let mut watched = self.watched.lock();
        let Watched { watch, marks } = &mut *watched;
        if generation > marks.key_file {
            marks.key_file = generation;
            // A vault that is read alone learns of it in its next mount.
            let (state, epochs) = (self.keys().state, self.context.epochs());
            if self.access == Access::ReadWrite
                && let Err(error) = state::write(&self.own, &state, epochs, marks)
            {
                log::warn!("the vault does not know that its key file was changed: {error}");
            }
            note_seen(watch, epochs, marks);
        }
    }

    /// How often its key file had been written, by the vault and by what this machine knows of it.
    pub fn key_file_seen(&self) -> u64 {
        let known = default_place().map_or(0, |place| {
            newest_key_file(&place, &self.context.volume(), &self.keys().freshness)
        });
        self.watched.lock().marks.key_file.max(known)
    }

    /// What the mount's root shows.
    pub fn root_attrs(&self) -> RootAttrs {
        *self.root_attrs.lock()
    }

    /// Has the mount's root show what `change` makes of it, durably.
    ///
    /// # Errors
    /// What the backing filesystem says; nothing is changed then.
    pub fn change_root_attrs(&self, change: impl FnOnce(&mut RootAttrs)) -> io::Result<()> {
        let mut attrs = self.root_attrs.lock();
        let mut changed = *attrs;
        change(&mut changed);
        if changed != *attrs {
            changed.write(&self.own, &self.keys().root)?;
            *attrs = changed;
        }
        Ok(())
    }

    /// What is known of its age; `None` for one that was opened whatever that is.
    pub fn freshness(&self) -> Option<&Freshness> {
        self.freshness.as_ref()
    }

    /// Where this machine keeps what it knows of the vault.
    pub fn record_path(&self) -> Option<PathBuf> {
        self.watched.lock().watch.as_ref().map(Watch::path)
    }
}
