//! Keeping a trail: for a mount, as its options say, and for a command on a vault that nobody has
//! open, as the last mount did.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::crypto::TrailKeys;
use crate::format::{Epoch, VolumeId};
use crate::fs::Fs;
use crate::keys::KeyRing;
use crate::store::{Access, Freshness, TrailSeal, Vault, VaultError};
use crate::sys::Show;
use crate::trail::{
    Mounts, Seal, SealKeeper, Settings, Start, Trail, TrailError, Who, default_directory,
};

use super::super::control::{Note, Request};
use super::super::exit::{Context, Exit, Failure, tell};
use super::super::mount::Plan;
use super::super::target::{Daemon, Target};
use super::super::vault::{self, Keys};
use super::events;
use super::options::{OnFailure, TrailOptions};

impl From<TrailError> for Failure {
    fn from(error: TrailError) -> Self {
        Self::new(Exit::Trail, error.to_string())
    }
}

/// The trail of a mount; `None` where it keeps none, which was said.
///
/// # Errors
/// [`Exit::Trail`] where the trail can't be kept and is to fail closed.
pub fn for_mount(plan: &Plan, keys: &Keys, fs: &Fs) -> Result<Option<Arc<Trail>>, Failure> {
    let options = &plan.options.trail;
    let context = fs.vault().context();
    let (volume, epochs) = (context.volume(), context.epochs());
    let mounts =
        Mounts { newest: epochs.current, ended: false, without_line: epochs.without_line() };
    let keeper = TrailSeal::of(&plan.vault, fs.vault().access())
        .map_err(|error| vault::failure(&plan.vault, error))?;
    if options.off {
        if fs.vault().access() == Access::ReadWrite {
            pass_over(&keeper, &context.ring(), &mounts);
        }
        return Ok(None);
    }
    if let (Some(Freshness::Copy(of)), None) = (fs.vault().freshness(), &options.directory) {
        tell(&format!(
            "no trail is kept of this copy, since it would go on with that of the vault in {}; name \
             another place with --trail",
            of.shown()
        ));
        return Ok(None);
    }
    let kept = ensure_key(keys, fs).and_then(|()| {
        let foreign = fs.vault().foreign_trail();
        let wanted = Wanted { volume, mounts, options: Some(options), foreign };
        let start = wanted.start(keeper, &context.ring())?;
        Ok(Trail::start(start, options.sinks()?)?)
    });
    match kept {
        Ok((trail, trouble)) => {
            trouble.iter().for_each(|trouble| log::error!("{trouble}"));
            if options.directory.is_some() {
                fs.vault().trust_trail();
            }
            Ok(Some(Arc::new(trail)))
        }
        Err(failure) if options.on_failure == OnFailure::Closed => Err(failure),
        Err(failure) => {
            log::error!("no trail is kept of this mount: {failure}");
            tell(&format!("no trail is kept of this mount: {failure}"));
            Ok(None)
        }
    }
}

/// Where the trail of a mount is going to lie; `None` where none is kept, or there is no place for it.
pub fn place(plan: &Plan, keys: &Keys, foreign: Option<&str>) -> Option<PathBuf> {
    let options = &plan.options.trail;
    if options.off {
        return None;
    }
    let keeper = TrailSeal::of(&plan.vault, Access::ReadOnly).ok()?;
    let ring = keys.read().ok()?.ring;
    let seal = ring.trail_keys().and_then(|keys| Seal::read(&keeper, &keys).ok().flatten());
    place_of(Some(options), seal.as_ref(), &ring.volume_id(), foreign).ok()
}

/// Where a trail lies: where it is to be, or where it was unless that is `foreign`, or in the default
/// place.
fn place_of(
    options: Option<&TrailOptions>,
    seal: Option<&Seal>,
    volume: &VolumeId,
    foreign: Option<&str>,
) -> Result<PathBuf, Failure> {
    let named = options.and_then(|options| options.directory.as_deref());
    match (named, seal) {
        (Some(named), _) => Ok(std::path::absolute(named)?),
        (None, Some(seal)) if !is_foreign(seal, foreign) => Ok(seal.directory.clone()),
        (None, Some(_) | None) => Ok(default_directory(volume)?),
    }
}

/// Whether the trail lies where another machine or user kept it.
fn is_foreign(seal: &Seal, foreign: Option<&str>) -> bool {
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
    if !events::leaves_trail(request) {
        return act(None).map(|(done, _)| done);
    }
    let (trail, before) = for_command(vault, keys)?;
    let done = act(trail.as_ref());
    if let Some(trail) = &trail {
        let ring = done.as_ref().map_or(&before, |(_, after)| after);
        let event = events::event(request, ring, &Who::here(), done.as_ref().map(|_| ()));
        events::keep(trail, event);
    }
    done.map(|(done, _)| done)
}

/// Records what a command is about to do with the key file by itself.
///
/// # Errors
/// [`Exit::Trail`] where the trail can't be kept and is to fail closed; those of the daemon.
pub fn note(target: &Target, keys: &Keys, note: Note) -> Result<(), Failure> {
    let request = Request::Note(note, keys.read()?.mark().clone());
    match target.daemon()? {
        Daemon::Reached(client) => client.ask(&request, &mut |_| ()).map(drop),
        Daemon::None => recorded(&target.vault, keys, &request, |_| Ok(((), keys.read()?.ring))),
    }
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
    let keeper =
        TrailSeal::of(vault, Access::ReadWrite).map_err(|error| vault::failure(vault, error))?;
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
    let wanted = Wanted { volume: ring.volume_id(), mounts, options: None, foreign };
    let mut closed = false;
    let kept = wanted.start(keeper, &ring).and_then(|start| {
        closed = start.settings.fail_closed;
        Ok(Trail::start(start, Vec::new())?)
    });
    match kept {
        Ok((trail, trouble)) => {
            trouble.iter().for_each(|trouble| tell(trouble));
            Ok((Some(Arc::new(trail)), ring))
        }
        Err(failure) if closed => Err(failure),
        Err(failure) => {
            tell(&format!("this leaves no line in the trail: {failure}"));
            Ok((None, ring))
        }
    }
}

/// What a trail is wanted for.
struct Wanted<'a> {
    volume: VolumeId,
    mounts: Mounts,
    /// Those of a mount; else all is as it was.
    options: Option<&'a TrailOptions>,
    /// Where the trail is not to be made.
    foreign: Option<String>,
}

impl Wanted<'_> {
    fn start(self, keeper: TrailSeal, ring: &KeyRing) -> Result<Start, Failure> {
        let keys = ring.trail_keys().ok_or(TrailError::NoKey)?;
        // One that is damaged is told of by who goes on with the trail.
        let seal = Seal::read(&keeper, &keys).ok().flatten();
        let foreign = self.foreign.as_deref();
        let directory = place_of(self.options, seal.as_ref(), &self.volume, foreign)?;
        if let Some(seal) = seal.as_ref().filter(|seal| is_foreign(seal, foreign))
            && seal.directory != directory
        {
            tell(&format!(
                "the trail of this vault was in {} of another machine or user; from now on it is kept \
                 in {}",
                seal.directory.shown(),
                directory.shown()
            ));
        }
        let settings = match (self.options, &seal) {
            (Some(options), _) => options.settings(),
            (None, Some(seal)) => seal.settings,
            (None, None) => Settings::default(),
        };
        let newest = self.mounts.newest;
        let epoch = seal.as_ref().map_or(newest, |seal| seal.epoch.max(newest));
        Ok(Start {
            volume: self.volume,
            keys,
            directory,
            settings,
            epoch,
            without_line: self.mounts.without_line,
            keeper: Box::new(keeper),
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
        TrailSeal::of(vault, Access::ReadOnly).map_err(|error| vault::failure(vault, error))?;
    let default = default_directory(&vault::describe(vault)?.vault);
    let claimed = match Seal::claimed_directory(&keeper) {
        Some(claimed) if default.as_ref().is_ok_and(|default| *default == claimed) => {
            return Ok(claimed);
        }
        Some(claimed) => claimed,
        None => return Ok(default?),
    };
    let keys = keys().map_err(|failure| {
        let claimed = claimed.shown();
        let sentence = format!(
            "the vault says that its trail lies in {claimed}, which only its key file can confirm \
             ({failure}): give that, or name the place with --trail"
        );
        Failure::new(Exit::Trail, sentence)
    })?;
    match Seal::read(&keeper, &keys)? {
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
        TrailSeal::of(vault, Access::ReadOnly).map_err(|error| vault::failure(vault, error))?;
    match Seal::claimed_directory(&keeper) {
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

/// A mount that keeps no trail on purpose leaves a note of that where one was kept before.
fn pass_over(keeper: &dyn SealKeeper, ring: &KeyRing, mounts: &Mounts) {
    let Some(keys) = ring.trail_keys() else { return };
    let Ok(Some(mut seal)) = Seal::read(keeper, &keys) else { return };
    // Where there is a mount that it should know of, the next verify is to see that.
    let before = Epoch(mounts.newest.0.saturating_sub(1));
    if seal.epoch > before || seal.set_back(before, &mounts.without_line).is_some() {
        return;
    }
    seal.epoch = mounts.newest;
    seal.passed_over += 1;
    if let Err(error) = seal.write(keeper, &keys, true) {
        log::warn!("the vault's record of its trail can't be written: {error}");
    }
}

/// Key files of before there was a trail have no key for it.
fn ensure_key(keys: &Keys, fs: &Fs) -> Result<(), Failure> {
    if fs.vault().context().ring().trail_keys().is_some() {
        return Ok(());
    }
    vault::update(keys, fs, |ring| {
        ring.ensure_trail_key();
        Ok(())
    })
    .or_fail(Exit::Trail, || TrailError::NoKey.to_string())
}
