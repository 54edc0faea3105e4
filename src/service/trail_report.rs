//! Whether the trail of a vault is whole, and the record that somebody looked into what is not.

use std::path::Path;
use std::sync::Arc;

use serde_json::json;

use crate::crypto::TrailKeys;
use crate::keys::KeyRing;
use crate::keys::policy::Subject;
use crate::service::failure::{Exit, Failure, vault_failure};
use crate::service::trail_events::of_key;
use crate::service::trail_keeping::{directory, mounts};
use crate::store::{Access, CheckpointFile, Vault};
use crate::sys;
use crate::trail::{self, EventName, Head, Mounts, Report, Trail, TrailError};

/// Whether the trail of a vault that nobody has open is whole, also one that was `named`, and has the
/// line that `head` names.
///
/// # Errors
/// [`Exit::Trail`]; [`Exit::Usage`] for a head that can't be parsed.
pub fn verify_at_rest(
    vault: &Path,
    ring: &KeyRing,
    named: Option<&Path>,
    head: Option<&str>,
) -> Result<Report, Failure> {
    let head = parse_head(head)?;
    let keys = trail_keys(ring)?;
    // First: a mount that begins meanwhile tells the trail after the vault.
    let beside = Beside::at_rest(vault, ring);
    let directory = directory(vault, named, || Ok(keys.clone()))?;
    verified_with(vault, (&directory, beside), &keys, head)
}

/// Records in the trail of a vault that nobody has open that its findings were looked into; returns
/// what they are.
///
/// # Errors
/// [`Exit::Trail`].
pub fn acknowledge_at_rest(
    vault: &Path,
    ring: &KeyRing,
    trail: Option<&Arc<Trail>>,
    reason: &str,
) -> Result<Report, Failure> {
    let keys = trail_keys(ring)?;
    let directory = directory(vault, None, || Ok(keys.clone()))?;
    let kept = trail.ok_or_else(|| TrailError::Missing(directory.clone()))?;
    kept.flush();
    let beside = Beside::at_rest(vault, ring);
    let report = verified_with(vault, (&directory, beside), &keys, None)?;
    acknowledge_in(kept, (&report, reason), &keys, (ring, &Subject::this_process()))?;
    Ok(report)
}

/// What `trail head` printed, parsed.
///
/// # Errors
/// [`Exit::Usage`].
pub fn parse_head(head: Option<&str>) -> Result<Option<Head>, Failure> {
    let parsed = head.map(str::parse).transpose();
    parsed.map_err(|what: &str| Failure::new(Exit::Usage, what))
}

/// The keys of the trail.
///
/// # Errors
/// [`Exit::Trail`] for a key file that has none.
pub fn trail_keys(ring: &KeyRing) -> Result<TrailKeys, Failure> {
    Ok(ring.trail_keys().ok_or(TrailError::NoKey)?)
}

/// Records that the findings of a report were looked into, if it has any.
///
/// # Errors
/// [`Exit::Trail`].
pub fn acknowledge_in(
    kept: &Trail,
    (report, reason): (&Report, &str),
    keys: &TrailKeys,
    (ring, subject): (&KeyRing, &Subject),
) -> Result<(), Failure> {
    if report.findings.is_empty() {
        return Ok(());
    }
    let digests: Vec<_> = report.findings.iter().map(|finding| finding.digest(keys)).collect();
    let mut event =
        of_key(EventName::AcknowledgeTrail, ring, ring.default_key().name(), subject.clone());
    event.parameters.details = Some(json!({ "reason": reason, "findings": digests }));
    Ok(kept.record_durably(event)?)
}

/// What is known of a trail beside it and the vault's record of it.
#[derive(Debug)]
pub struct Beside {
    /// The mounts that it should tell of.
    mounts: Option<Mounts>,
    /// What else speaks against it.
    doubts: Vec<String>,
}

impl Beside {
    /// Of the trail of a vault that nobody has open.
    pub fn at_rest(vault: &Path, ring: &KeyRing) -> Self {
        let machine = sys::machine_id();
        let mounts = mounts(vault, ring);
        Self { mounts, doubts: Vault::trail_doubts(vault, ring, machine.as_deref()) }
    }

    /// Of that of an open one. Its daemon writes this machine's record anew when it ends, also where that
    /// is missing.
    pub fn of_open(vault: &Path, open: &Vault, ring: &KeyRing) -> Self {
        let mounts = open.own_mounts().ok();
        Self { mounts, doubts: Vault::trail_doubts(vault, ring, None) }
    }
}

/// Verifies the trail in a directory against what the vault and this machine know of it.
///
/// # Errors
/// [`Exit::Trail`], [`Exit::Vault`].
pub fn verified_with(
    vault: &Path,
    (directory, beside): (&Path, Beside),
    keys: &TrailKeys,
    head: Option<Head>,
) -> Result<Report, Failure> {
    let keeper =
        CheckpointFile::of(vault, Access::ReadOnly).map_err(|error| vault_failure(vault, error))?;
    let Beside { mounts, doubts } = beside;
    Ok(trail::verify(directory, keys, &keeper, head, mounts.as_ref(), &doubts)?)
}
