//! The trail of a mount, as its options say.

use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::options::OnFailure;
use crate::daemon::plan::Plan;
use crate::format::Epoch;
use crate::fs::Fs;
use crate::keys::KeyRing;
use crate::service::failure::{Context, Exit, Failure, warn_user};
use crate::service::keys::Keys;
use crate::service::trail_keeping::{TrailPlan, place_of};
use crate::service::vault;
use crate::store::{Access, CheckpointFile, Freshness};
use crate::sys::Show;
use crate::trail::{Checkpoint, CheckpointStore, Durability, Mounts, Trail, TrailError};

/// The trail of a mount; `None` where it keeps none, which was said.
///
/// # Errors
/// [`Exit::Trail`] where the trail can't be kept and is to fail closed.
pub fn for_mount(plan: &Plan, keys: &Keys, fs: &Fs) -> Result<Option<Arc<Trail>>, Failure> {
    let options = &plan.options.trail;
    let context = fs.vault().context();
    let (vault_id, epochs) = (context.vault_id(), context.epochs());
    let mounts =
        Mounts { newest: epochs.current, ended: false, without_line: epochs.without_line() };
    let opened = fs.vault().checkpoint_file();
    let keeper = opened.context(Exit::Failed, || format!("the vault {}", plan.vault.shown()))?;
    if options.off {
        if fs.vault().access() == Access::ReadWrite {
            pass_over(&keeper, &context.ring(), &mounts);
        }
        return Ok(None);
    }
    if let (Some(Freshness::Copy(of)), None) = (fs.vault().freshness(), &options.directory) {
        warn_user(&format!(
            "no trail is kept of this copy, since it would go on with that of the vault in {}; name \
             another place with --trail",
            of.shown()
        ));
        return Ok(None);
    }
    let kept = ensure_key(keys, fs).and_then(|()| {
        let foreign = fs.vault().foreign_trail();
        let plan_of_trail = TrailPlan {
            vault_id,
            mounts,
            directory: options.directory.as_deref(),
            settings: Some(options.settings()),
            foreign,
        };
        let start = plan_of_trail.start(keeper, &context.ring())?;
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
            warn_user(&format!("no trail is kept of this mount: {failure}"));
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
    let keeper = CheckpointFile::of(&plan.vault, Access::ReadOnly).ok()?;
    let ring = keys.read().ok()?.ring;
    let seal = ring.trail_keys().and_then(|keys| Checkpoint::read(&keeper, &keys).ok().flatten());
    place_of(options.directory.as_deref(), seal.as_ref(), &ring.vault_id(), foreign).ok()
}

/// A mount that keeps no trail on purpose leaves a note of that where one was kept before.
fn pass_over(keeper: &dyn CheckpointStore, ring: &KeyRing, mounts: &Mounts) {
    let Some(keys) = ring.trail_keys() else { return };
    let Ok(Some(mut seal)) = Checkpoint::read(keeper, &keys) else { return };
    // Where there is a mount that it should know of, the next verify is to see that.
    let before = Epoch(mounts.newest.0.saturating_sub(1));
    if seal.epoch > before || seal.rollback_message(before, &mounts.without_line).is_some() {
        return;
    }
    seal.epoch = mounts.newest;
    seal.without_trail += 1;
    if let Err(error) = seal.write(keeper, &keys, Durability::Durable) {
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
    .context(Exit::Trail, || TrailError::NoKey.to_string())
}
