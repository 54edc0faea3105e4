//! Keeping a trail: where it lies, how it is kept, and what a command records in it on a vault that no
//! daemon has open.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypto::TrailKeys;
use crate::format::VaultId;
use crate::keys::KeyRing;
use crate::keys::policy::Subject;
use crate::service::failure::{Exit, Failure, vault_failure, warn_user};
use crate::service::keys::Keys;
use crate::service::request::{Note, Request};
use crate::service::trail_events::{event, keep_events, leaves_trail};
use crate::service::vault;
use crate::store::{Access, CheckpointFile, Vault, VaultError};
use crate::sys::Show;
use crate::trail::{Checkpoint, Mounts, Settings, Start, Trail, TrailError, default_directory};

/// Where a trail lies: where it is to be, or where it was unless that is `foreign`, or in the default
/// place.
pub fn place_of(
    named: Option<&Path>,
    seal: Option<&Checkpoint>,
    vault_id: &VaultId,
    foreign: Option<&str>,
) -> Result<PathBuf, Failure> {
    match (named, seal) {
        // The vault keeps where it is, not a link that leads there.
        (Some(named), _) => named.canonicalize().or_else(|_| Ok(std::path::absolute(named)?)),
        (None, Some(seal)) if !is_foreign(seal, foreign) => Ok(seal.directory.clone()),
        (None, Some(_) | None) => Ok(default_directory(vault_id)?),
    }
}

/// Whether the trail lies where another machine or user kept it.
fn is_foreign(seal: &Checkpoint, foreign: Option<&str>) -> bool {
    foreign.is_some_and(|foreign| seal.directory.to_string_lossy() == foreign)
}

/// Does what a daemon would be asked, where there is none, and records it. `act` also returns the
/// keys that are in force then.
///
/// # Errors
/// Those of `act`; [`Exit::Trail`] where the trail can't be kept and is to fail closed: nothing was
/// done then.
pub fn recorded<T>(
    vault: &Path,
    keys: &Keys,
    request: &Request,
    act: impl FnOnce(Option<&Arc<Trail>>) -> Result<(T, KeyRing), Failure>,
) -> Result<T, Failure> {
    vault::require_newest(vault, keys)?;
    recorded_whatever_its_age(vault, keys, request, act)
}

fn recorded_whatever_its_age<T>(
    vault: &Path,
    keys: &Keys,
    request: &Request,
    act: impl FnOnce(Option<&Arc<Trail>>) -> Result<(T, KeyRing), Failure>,
) -> Result<T, Failure> {
    if !leaves_trail(request) {
        return act(None).map(|(done, _)| done);
    }
    let (trail, before) = for_command(vault, keys)?;
    let done = act(trail.as_ref());
    if let Some(trail) = &trail {
        let ring = done.as_ref().map_or(&before, |(_, after)| after);
        let event = event(request, ring, &Subject::this_process(), done.as_ref().map(|_| ()));
        keep_events(trail, event);
    }
    done.map(|(done, _)| done)
}

/// Records that a vault's key file was made from a backup, which may be an older one.
///
/// # Errors
/// [`Exit::Trail`] where the trail can't be kept and is to fail closed.
pub fn note_restore(vault: &Path, keys: &Keys) -> Result<(), Failure> {
    let request = Request::Note(Note::Restore, keys.read()?.mark().clone());
    recorded_whatever_its_age(vault, keys, &request, |_| Ok(((), keys.read()?.ring)))
}

/// The trail, unless it can't be kept and may fail open; and the keys, which were read for it.
fn for_command(vault: &Path, keys: &Keys) -> Result<(Option<Arc<Trail>>, KeyRing), Failure> {
    let keeper = CheckpointFile::of(vault, Access::ReadWrite)
        .map_err(|error| vault_failure(vault, error))?;
    let ring = keys.read()?.ring;
    let mounts = mounts(vault, &ring).unwrap_or_default();
    let ring = match ring.trail_keys() {
        Some(_) => ring,
        None => {
            let added = keys.edit(|file| {
                file.ring.ensure_trail_key();
                Ok(())
            });
            added?.1.ring
        }
    };
    let foreign = Vault::foreign_trail_of(vault, &ring);
    let plan =
        TrailPlan { vault_id: ring.vault_id(), mounts, directory: None, settings: None, foreign };
    let mut closed = false;
    let kept = plan.start(keeper, &ring).and_then(|start| {
        closed = start.settings.fail_closed;
        Ok(Trail::start(start, Vec::new())?)
    });
    match kept {
        Ok((trail, trouble)) => {
            trouble.iter().for_each(|trouble| warn_user(trouble));
            Ok((Some(Arc::new(trail)), ring))
        }
        Err(failure) if closed => Err(failure),
        Err(failure) => {
            warn_user(&format!("this leaves no line in the trail: {failure}"));
            Ok((None, ring))
        }
    }
}

/// How a trail is to be kept.
pub struct TrailPlan<'a> {
    /// The vault.
    pub vault_id: VaultId,
    /// What the vault knows of its mounts.
    pub mounts: Mounts,
    /// Where it goes, if that is said.
    pub directory: Option<&'a Path>,
    /// How it is kept, if that is said; else as before.
    pub settings: Option<Settings>,
    /// Where it is not to be made.
    pub foreign: Option<String>,
}

impl TrailPlan<'_> {
    /// What the trail starts with.
    ///
    /// # Errors
    /// [`Exit::Trail`].
    pub fn start(self, keeper: CheckpointFile, ring: &KeyRing) -> Result<Start, Failure> {
        let keys = ring.trail_keys().ok_or(TrailError::NoKey)?;
        // The writer that continues the trail reports a damaged one.
        let seal = Checkpoint::read(&keeper, &keys).ok().flatten();
        let foreign = self.foreign.as_deref();
        let directory = place_of(self.directory, seal.as_ref(), &self.vault_id, foreign)?;
        if let Some(seal) = seal.as_ref().filter(|seal| is_foreign(seal, foreign))
            && seal.directory != directory
        {
            warn_user(&format!(
                "the trail of this vault was in {} of another machine or user; from now on it is kept \
                 in {}",
                seal.directory.shown(),
                directory.shown()
            ));
        }
        let before = seal.as_ref().map(|seal| seal.settings);
        let settings = self.settings.or(before).unwrap_or_default();
        let newest = self.mounts.newest;
        let epoch = seal.as_ref().map_or(newest, |seal| seal.epoch.max(newest));
        Ok(Start {
            vault_id: self.vault_id,
            keys,
            directory,
            settings,
            epoch,
            without_line: self.mounts.without_line,
            checkpoints: Box::new(keeper),
        })
    }
}

/// Where the trail of a vault lies: in the default place, unless the vault says otherwise. Another place
/// is believed only with `keys`, which are asked for then: who writes to the vault could name one of
/// their own.
///
/// # Errors
/// [`Exit::Vault`]; [`Exit::Trail`] when there is no default place, and for another that can't be
/// authenticated.
pub fn directory(
    vault: &Path,
    named: Option<&Path>,
    keys: impl FnOnce() -> Result<TrailKeys, Failure>,
) -> Result<PathBuf, Failure> {
    if let Some(directory) = named {
        return Ok(directory.to_owned());
    }
    let keeper =
        CheckpointFile::of(vault, Access::ReadOnly).map_err(|error| vault_failure(vault, error))?;
    let default = default_directory(&vault::describe(vault)?.vault);
    let claimed = match Checkpoint::claimed_directory(&keeper) {
        Some(claimed) if default.as_ref().is_ok_and(|default| *default == claimed) => {
            return Ok(claimed);
        }
        Some(claimed) => claimed,
        None => return Ok(default?),
    };
    let keys = keys().map_err(|failure| {
        let claimed = claimed.shown();
        let message = format!(
            "the vault says that its trail lies in {claimed}, which only its key file can confirm \
             ({failure}): give that, or name the place with --trail"
        );
        Failure::new(Exit::Trail, message)
    })?;
    match Checkpoint::read(&keeper, &keys)? {
        Some(seal) => Ok(seal.directory),
        None => Ok(default?),
    }
}

/// Where a mount's trail may lie, by its options or by the vault's word, which is not authenticated.
///
/// # Errors
/// [`Exit::Vault`]; [`Exit::Trail`] when there is no default place.
pub fn claimed_directory(vault: &Path, named: Option<&Path>) -> Result<PathBuf, Failure> {
    if let Some(directory) = named {
        return Ok(directory.to_owned());
    }
    let keeper =
        CheckpointFile::of(vault, Access::ReadOnly).map_err(|error| vault_failure(vault, error))?;
    match Checkpoint::claimed_directory(&keeper) {
        Some(directory) => Ok(directory),
        None => Ok(default_directory(&vault::describe(vault)?.vault)?),
    }
}

/// The mounts that the trail of a vault should tell of; `None` where they can't be authenticated. Where
/// the vault's key is out of use they are believed without.
pub fn mounts(vault: &Path, ring: &KeyRing) -> Option<Mounts> {
    match Vault::mounts(vault, ring) {
        Ok(mounts) => Some(mounts),
        Err(VaultError::Key(error)) if error.is_refusal() => Vault::claimed_mounts(vault),
        Err(_) => None,
    }
}
