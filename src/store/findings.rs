//! What speaks against a vault's age: what it says of itself, what this machine knows of it, and its key
//! file, each compared with the others.

use std::path::Path;

use super::marks::{MachineTag, Marks, TrailMark};
use super::records::{ReadError, Record};
use super::{EpochRecord, RootAttrs, root_attrs, state};
use crate::format::{Epoch, RecordId};
use crate::keys::KeyFileMark;
use crate::sys::Show;

/// What the vault says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its record of mounts; `None` where that is missing or was changed.
    pub epochs: Option<&'a EpochRecord>,
    /// With what it says of the rest.
    pub marks: &'a Marks,
    /// The trail's record as it is, if that is authentic, and the newest mount that it knows of.
    pub trail: Option<(&'a TrailMark, Epoch)>,
    /// What the mount's root shows, if the file of that is authentic.
    pub root: Option<RootAttrs>,
}

/// What is wrong with a vault's age.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// One is older than another says.
    pub set_back: Vec<String>,
    /// What would tell can't be used.
    pub unproven: Vec<String>,
}

impl Findings {
    pub fn set_back(&mut self, what: impl IntoIterator<Item = String>) {
        self.set_back.extend(what);
    }

    pub fn unproven(&mut self, what: String) {
        self.unproven.push(what);
    }
}

/// What the vault itself tells of its trail and its root.
pub(super) fn by_the_vault(claim: Claim<'_>) -> Findings {
    let mut findings = Findings::default();
    let Some(epochs) = claim.epochs else {
        let what = format!("its record of mounts, {}, is missing or was changed", state::FILE);
        findings.unproven(what);
        return findings;
    };
    let trail = claim.trail.map(|(mark, _)| mark);
    findings.set_back(trail_set_back(claim.marks.trail.as_ref(), trail));
    if let Some((_, epoch)) = claim.trail
        && epoch > epochs.current
    {
        findings.set_back([format!(
            "its record of mounts knows of {} and its record of the trail of {}",
            mounts(epochs.current),
            mounts(epoch)
        )]);
    }
    // A mount that runs changes the file before it tells the vault, and so may one that crashed.
    if let Some(kept) = claim.marks.root.filter(|_| !epochs.open) {
        match claim.root {
            Some(root) if root != kept => findings.set_back([format!(
                "the mode and owner of its root, in {}, are not those of the end of its last mount",
                root_attrs::FILE
            )]),
            Some(_) => {}
            None => findings.unproven(format!(
                "the mode and owner of its root, in {}, are missing or were changed",
                root_attrs::FILE
            )),
        }
    }
    findings
}

/// What this machine knows of the vault's mounts and of its trail.
pub(super) fn by_the_record(last: &Record, claim: Claim<'_>, findings: &mut Findings) {
    mounts_set_back(last, claim, findings);
    if last.trail != claim.marks.trail {
        let trail = claim.trail.map(|(mark, _)| mark);
        findings.set_back(trail_set_back(last.trail.as_ref(), trail));
    }
}

pub(super) fn mounts_set_back(last: &Record, claim: Claim<'_>, findings: &mut Findings) {
    if let Some(now) = claim.epochs {
        if now.current < last.epoch {
            findings.set_back([format!(
                "it knows of {} and this machine of {}",
                mounts(now.current),
                mounts(last.epoch)
            )]);
        } else if now.current == last.epoch && now.is_beginning() {
            findings.set_back([format!(
                "it says that its last mount, number {}, served nobody, and this machine knows that it \
                 did",
                last.epoch.0
            )]);
        } else if now.current == last.epoch && now.open && !last.open {
            findings.set_back([format!(
                "it says that its last mount, number {}, did not end, and this machine saw it end",
                last.epoch.0
            )]);
        }
    }
    if claim.marks.told(&last.id) > last.epoch {
        findings.set_back([format!(
            "this machine's record of it was put back: the vault told it of {}, and it knows of {}",
            mounts(claim.marks.told(&last.id)),
            mounts(last.epoch)
        )]);
    }
}

/// Of the vault and this machine the one that has seen the newer key file counts: the other was not
/// told, as a vault on a read-only filesystem.
pub(super) fn key_file_set_back(
    marks: &Marks,
    machine: Option<&KeyFileMark>,
    now: &KeyFileMark,
) -> Vec<String> {
    let vault = &marks.key_file;
    let newest = vault.generation.max(machine.map_or(0, |mark| mark.generation));
    // What both say is said once.
    let machine = machine.filter(|mark| *mark != vault);
    let newest = [Some(vault), machine].into_iter().flatten().filter(|m| m.generation == newest);
    newest.filter_map(|mark| mark.contradicts(now)).collect()
}

/// The record that this machine kept of the vault, by the vault, where it is not among `records`; and the
/// mount that it was told of.
pub(super) fn lost_record(
    marks: &Marks,
    machine: Option<&MachineTag>,
    records: &[Record],
) -> Option<(RecordId, Epoch)> {
    let last = marks.last_record_of(machine?)?;
    let is_lost = records.iter().all(|record| record.id != last);
    is_lost.then(|| (last, marks.told(&last)))
}

/// What a lost record means that was `told` of a mount; `records` are those that the file has.
pub(super) fn without_record(file: &Path, records: &[Record], told: Epoch) -> String {
    let (file, told) = (file.shown(), mounts(told));
    match records {
        [] => format!(
            "this machine's record of it, {file}, is missing, and the vault told it of {told}: put the \
             file back if it was lost"
        ),
        _ => format!(
            "this machine's record of it is missing in {file}, and the vault told it of {told}: put a \
             newer state of the file back if it was lost"
        ),
    }
}

/// This machine's records, and why they tell nothing.
pub(super) fn usable(
    read: Result<Vec<Record>, ReadError>,
    file: &Path,
) -> (Vec<Record>, Option<String>) {
    let why = match read {
        Ok(records) => return (records, None),
        Err(ReadError::Damaged) => "is damaged or was made with other keys".to_owned(),
        Err(ReadError::Io(error)) => format!("can't be read: {error}"),
    };
    (Vec::new(), Some(format!("this machine's record of it, {}, {why}", file.shown())))
}

/// The newest mount that can be known outside of the vault.
pub(super) fn newest_known(epochs: &EpochRecord) -> Epoch {
    Epoch(epochs.current.0 - u64::from(epochs.is_beginning()))
}

fn mounts(epoch: Epoch) -> String {
    if epoch.0 == 1 { "1 mount".to_owned() } else { format!("{} mounts", epoch.0) }
}

pub(super) fn trail_set_back(seen: Option<&TrailMark>, now: Option<&TrailMark>) -> Option<String> {
    let seen = seen?;
    let Some(now) = now else {
        return Some(format!(
            "its record of the trail in {} is missing or was changed",
            seen.directory.shown()
        ));
    };
    if now.last < seen.last {
        return Some(format!(
            "its record of the trail knows of {} lines, and there were {}",
            now.last, seen.last
        ));
    }
    (now.last == seen.last && now.link != seen.link)
        .then(|| format!("its trail ends with another line {} than it did", seen.last))
}
