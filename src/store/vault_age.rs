//! What an open vault and this machine keep of each other, and what the mount's root shows.

use std::io;
use std::path::{Path, PathBuf};

use super::description::{Description, open_own_files};
use super::freshness::{Freshness, Watch, default_place, foreign_trail_in, newest_key_file};
use super::own_files::OwnFiles;
use super::records::file_of;
use super::watched::{Watched, trail_mark};
use super::{Access, CheckpointFile, EpochRecord, RootAttrs, Vault, VaultError, state};
use crate::crypto::VaultKeys;
use crate::format::VaultId;
use crate::keys::{KeyFileMark, KeyRing};
use crate::trail::Mounts;

fn mounts_of(record: &EpochRecord) -> Mounts {
    let (newest, ended) = (record.current, !record.open);
    Mounts { newest, ended, without_line: record.without_line() }
}

/// The id of a vault that need not be open, and the keys that its vault key gives.
pub(super) fn keys_of(own: &OwnFiles, ring: &KeyRing) -> Result<(VaultId, VaultKeys), VaultError> {
    let (description, mac) = Description::read(own)?;
    let key = description.unlock(&mac, &ring.ignoring_states())?;
    Ok((description.vault, VaultKeys::derive(&key, description.vault.as_bytes())))
}

impl Vault {
    /// Notes, durably, that the mount serves requests from now on. `has_line` tells whether the trail
    /// must have a line of it, which is durable by now. This machine learns of the mount only then: what
    /// it has heard of can't be one that never served anybody.
    ///
    /// # Errors
    /// [`VaultError::Io`]: it does not serve then.
    pub fn note_served(&self, has_line: bool) -> Result<(), VaultError> {
        if self.access == Access::ReadOnly {
            return Ok(());
        }
        let mut watched = self.watched.lock();
        let epochs = self.context.epochs().serve(has_line);
        state::write(&self.own, &self.keys().state, &epochs, &watched.marks)?;
        self.context.note_served(has_line);
        watched.note(&epochs);
        Ok(())
    }

    /// The mounts that the trail should tell of, as the vault in `dir` has them.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where the record of them can't be authenticated; what keeps the vault from
    /// being opened.
    pub fn mounts(dir: &Path, ring: &KeyRing) -> Result<Mounts, VaultError> {
        let own = open_own_files(dir)?;
        let (_, keys) = keys_of(&own, ring)?;
        Ok(mounts_of(&state::read(&own, &keys.state)?.0))
    }

    /// [`Vault::mounts`], not authenticated: for where the vault's key is out of use.
    pub fn claimed_mounts(dir: &Path) -> Option<Mounts> {
        Some(mounts_of(&state::peek(&open_own_files(dir).ok()?)?))
    }

    /// [`Vault::mounts`] of this one.
    ///
    /// # Errors
    /// [`VaultError::Damaged`]; [`VaultError::Io`].
    pub fn own_mounts(&self) -> Result<Mounts, VaultError> {
        Ok(mounts_of(&state::read(&self.own, &self.keys().state)?.0))
    }

    /// The file with the checkpoint of its trail.
    ///
    /// # Errors
    /// EMFILE.
    pub fn checkpoint_file(&self) -> io::Result<CheckpointFile> {
        CheckpointFile::over(&self.own, self.access)
    }

    /// Marks the clean end of a mount, with how far its trail has come.
    pub(super) fn note_clean_end(&self) -> Result<(), VaultError> {
        let mut watched = self.watched.lock();
        let seal = self.checkpoint_file()?;
        // A mount without a trail leaves the one that there was.
        let trail = trail_mark(&seal, &self.context.ring()).map(|(mark, _)| mark);
        watched.marks.trail = trail.or_else(|| watched.marks.trail.take());
        let ended = self.context.epochs_at_end();
        watched.note_told();
        state::write(&self.own, &self.keys().state, &ended, &watched.marks)?;
        watched.note(&ended);
        watched.ended = true;
        Ok(())
    }

    /// Goes on with the keys that a state of the key file holds; does nothing where a later state is in
    /// force, which another command has brought meanwhile.
    pub fn go_on_with(&self, mark: &KeyFileMark, ring: KeyRing) {
        let mut watched = self.watched.lock();
        if mark.generation >= watched.in_force {
            watched.in_force = mark.generation;
            self.note_mark(&mut watched, mark);
            self.context.replace_ring(ring);
        }
    }

    /// The key file is of this state by now: what is older is not to be used with the vault again.
    pub fn note_key_file(&self, mark: &KeyFileMark) {
        self.note_mark(&mut self.watched.lock(), mark);
    }

    fn note_mark(&self, watched: &mut Watched, mark: &KeyFileMark) {
        if mark.generation > watched.marks.key_file.generation && !watched.ended {
            watched.marks.key_file = mark.clone();
            // A vault that is read alone learns of it in its next mount.
            let (state, epochs) = (self.keys().state, self.context.epochs_now());
            if self.access == Access::ReadWrite
                && let Err(error) = state::write(&self.own, &state, &epochs, &watched.marks)
            {
                log::warn!("the vault does not know that its key file was changed: {error}");
            }
            watched.note(&epochs);
        }
    }

    /// Has the record of mounts of a vault, which is open for no mount, know of the state of the key
    /// file that it was opened with.
    ///
    /// # Errors
    /// [`VaultError::Io`], also on a filesystem that is read-only.
    pub fn keep_key_file_mark(&self) -> Result<(), VaultError> {
        let mark = self.watched.lock().marks.key_file.clone();
        let key = self.keys().state;
        let (record, mut marks) = state::read(&self.own, &key)?;
        if marks.key_file == mark {
            return Ok(());
        }
        marks.key_file = mark;
        state::write(&self.own, &key, &record, &marks)
    }

    /// The newest state of its key file, by the vault and by what this machine knows of it.
    pub fn key_file_seen(&self) -> KeyFileMark {
        let known = default_place().and_then(|place| {
            newest_key_file(&place, &self.context.vault_id(), &self.keys().freshness)
        });
        let told = self.watched.lock().marks.key_file.clone();
        known.filter(|known| known.generation > told.generation).unwrap_or(told)
    }

    /// Where its trail was when this machine first saw it: no directory is made there, unless whoever
    /// mounts it names it.
    pub fn foreign_trail(&self) -> Option<String> {
        let watched = self.watched.lock();
        watched.watch.as_ref().and_then(Watch::foreign_trail).map(str::to_owned)
    }

    /// The same of the vault in `dir`, whoever has it open; `None` where that can't be known.
    pub fn foreign_trail_of(dir: &Path, ring: &KeyRing) -> Option<String> {
        let (vault, keys) = keys_of(&open_own_files(dir).ok()?, ring).ok()?;
        let place = default_place()?;
        if !file_of(&place, &vault).exists() {
            // It was never seen here.
            let (mark, _) = trail_mark(&CheckpointFile::of(dir, Access::ReadOnly).ok()?, ring)?;
            return Some(mark.directory).filter(|directory| !Path::new(directory).is_dir());
        }
        foreign_trail_in(&place, dir, &vault, &keys.freshness)
    }

    /// Whoever mounts it names the place of its trail.
    pub fn trust_trail(&self) {
        self.watched.lock().watch.iter_mut().for_each(Watch::trust_trail);
    }

    /// What the mount's root shows.
    pub fn root_attrs(&self) -> RootAttrs {
        *self.root_attrs.lock()
    }

    /// Has the mount's root show what `change` makes of it, durably.
    ///
    /// # Errors
    /// Those of replacing a file below `.atrest`: the root shows what the file says then.
    pub fn change_root_attrs(&self, change: impl FnOnce(&mut RootAttrs)) -> io::Result<()> {
        // First: it is held over writes, for which no reader of the attributes waits.
        let mut watched = self.watched.lock();
        let before = self.root_attrs();
        let mut changed = before;
        change(&mut changed);
        if changed == before {
            return Ok(());
        }
        let key = &self.keys().root;
        let written = changed.write(&self.own, key);
        // A write may fail after the file was replaced, at the sync of its directory.
        if written.is_ok() || RootAttrs::read(&self.own, key) == Some(changed) {
            watched.marks.root = Some(changed);
            *self.root_attrs.lock() = changed;
        }
        written
    }

    /// What is known of its age; `None` for one that was opened whatever that is.
    pub fn freshness(&self) -> Option<&Freshness> {
        self.freshness.as_ref()
    }

    /// Why this machine can't keep what it knows of the vault.
    pub fn record_failing(&self) -> Option<String> {
        if self.freshness == Some(Freshness::NoPlace) {
            return Some("neither XDG_STATE_HOME nor HOME is set to an absolute path".to_owned());
        }
        self.watched.lock().failing.clone()
    }

    /// Where this machine keeps what it knows of the vault.
    pub fn record_path(&self) -> Option<PathBuf> {
        self.watched.lock().watch.as_ref().map(Watch::path)
    }
}
