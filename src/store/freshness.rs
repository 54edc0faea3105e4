//! Whether a vault is as new as it was when this machine last saw it. A vault that was put back to an
//! older state is authentic in all its parts: only what is kept outside of it can tell.
//!
//! A user's state directory holds one file for each vault: a record for each directory in which that
//! vault was, with the newest mount, how it ended, how far the trail had come and how often the key
//! file had been written, under a MAC of the vault key. The vault's own record of mounts says which
//! mount each machine was told of, so the two check each other.
//!
//! | order | what a crash between two steps leaves |
//! |---|---|
//! | begin: the vault's record of mounts, as one that serves nobody yet | this one is a mount behind, and known to be no newer |
//! | the trail's line of it; the vault's record, as one that serves; then this one | the same |
//! | end: the vault's record of mounts, then this one | this one says that the mount runs; the vault, that it ended |

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::marks::{Marks, TrailMark};
use super::own_files::OwnFiles;
use super::records::{
    ReadError, Record, Records, file_of, is_at, lock, name_of, other_place, read, read_from,
    record_of, shares_trail,
};
use super::{EpochRecord, VaultError, state};
use crate::crypto::MacKey;
use crate::format::{Epoch, RecordId, VolumeId};
use crate::keys::KeyFileMark;
use crate::sys::{self, Show};

/// What is known beside the vault when it is opened.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Where records are kept; `None` where there is no place for them.
    pub place: Option<PathBuf>,
    /// Which state the key file is of.
    pub key_file: KeyFileMark,
    /// That state was made by this program of one that was compared before.
    pub is_change: bool,
    /// What was put back is accepted as it is.
    pub accept_rollback: bool,
    /// A copy of a vault may be written: its trail is not the original's.
    pub own_trail: bool,
}

impl Evidence {
    /// With records in the default place: `atrest` in [`sys::state_home`], or in `/var/lib` for root
    /// without a home, as at boot.
    pub fn new(key_file: KeyFileMark) -> Self {
        let place = default_place();
        Self { place, key_file, is_change: false, accept_rollback: false, own_trail: false }
    }

    /// Why the key file is not to be used with what has `seen` another state of it.
    fn contradicts(&self, seen: &KeyFileMark) -> Option<String> {
        seen.contradicts(&self.key_file).filter(|_| !self.is_change)
    }
}

/// Where records of vaults lie unless told otherwise; `None` where there is no such place.
pub fn default_place() -> Option<PathBuf> {
    let at_boot = || rustix::process::geteuid().is_root().then(|| "/var/lib".into());
    Some(sys::state_home().or_else(at_boot)?.join("atrest"))
}

/// What is known of a vault's age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// There is no place for records.
    NoPlace,
    /// This machine sees the vault for the first time.
    FirstSeen,
    /// No older than it was when last seen.
    Fresh,
    /// The same, in another place than then.
    Moved(PathBuf),
    /// A copy of a vault that lies there still.
    Copy(PathBuf),
    /// Put back, and accepted: what was found.
    Accepted(Vec<String>),
}

impl Freshness {
    /// Its word in `status --json`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::NoPlace => "no-record",
            Self::FirstSeen => "first-seen",
            Self::Fresh => "fresh",
            Self::Moved(_) => "moved",
            Self::Copy(_) => "copy",
            Self::Accepted(_) => "accepted-rollback",
        }
    }
}

/// The records of one vault on this machine, and the one of its directory.
#[derive(Debug)]
pub struct Watch {
    place: PathBuf,
    key: MacKey,
    vault: VolumeId,
    own: Record,
    /// It is in the file.
    is_kept: bool,
    /// Nothing is written: a copy that is read alone leaves no trace.
    is_silent: bool,
    /// The file could not be authenticated, and is replaced.
    is_damaged: bool,
    /// Whoever mounts it says that it is the vault, and the others are copies of it.
    is_named: bool,
}

/// What the vault says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its record of mounts; `None` where that is missing or was changed.
    pub epochs: Option<&'a EpochRecord>,
    /// With what it says of the rest.
    pub marks: &'a Marks,
    /// The trail's record as it is, if that is authentic, and the newest mount that it knows of.
    pub trail: Option<(&'a TrailMark, Epoch)>,
}

impl Watch {
    /// Finds the record of the vault that lies in `dir`, and compares.
    ///
    /// # Errors
    /// [`VaultError::SetBack`] unless `evidence` accepts that; [`VaultError::IsCopy`] where a copy is to
    /// be `written` without a trail of its own; [`VaultError::Io`].
    pub fn begin(
        (dir, root): (&Path, impl AsFd),
        (vault, key): (VolumeId, MacKey),
        evidence: &Evidence,
        claim: Claim<'_>,
        written: bool,
    ) -> Result<(Option<Self>, Freshness), VaultError> {
        let mut findings = by_the_vault(claim);
        let trail_knows = claim.trail.map_or(Epoch(0), |(_, epoch)| epoch);
        let Some(place) = evidence.place.clone() else {
            if claim.epochs.is_none() && trail_knows == Epoch(0) {
                return Err(VaultError::Damaged(state::FILE));
            }
            findings.set_back(key_file_set_back(claim, None, evidence));
            return Ok((None, judged(findings, Freshness::NoPlace, evidence)?));
        };
        let directory = std::fs::canonicalize(dir)?;
        let is = rustix::fs::fstat(root)?;
        let inode = is.st_ino;
        let (records, is_damaged) = match read(&place, &vault, &key) {
            Ok(records) => (records, false),
            Err(ReadError::Damaged) => {
                let path = file_of(&place, &vault);
                findings.unproven(format!(
                    "this machine's record of it, {}, is damaged or was made with other keys",
                    path.shown()
                ));
                (Vec::new(), true)
            }
            Err(ReadError::Io(error)) => {
                let path = file_of(&place, &vault);
                findings.unproven(format!(
                    "this machine's record of it, {}, can't be read: {error}",
                    path.shown()
                ));
                (Vec::new(), false)
            }
        };
        let here = directory.to_string_lossy();
        let known = record_of(&records, &here, &is);
        let elsewhere = || known.is_none().then(|| other_place(&records, &vault, inode)).flatten();
        let (known, seen) = match (known, elsewhere()) {
            (Some(record), _) => {
                let trail = claim.trail.map(|(mark, _)| mark.directory.as_str());
                let seen = match shares_trail(record, &records, trail, &vault) {
                    Some(original) => Freshness::Copy(original),
                    None => Freshness::Fresh,
                };
                (Some(record.clone()), seen)
            }
            (None, Some((record, true))) => (None, Freshness::Copy(record.directory.into())),
            (None, Some((record, false))) => {
                let from = PathBuf::from(&record.directory);
                (Some(record), Freshness::Moved(from))
            }
            (None, None) => (None, Freshness::FirstSeen),
        };
        let mut is_named = false;
        if let Freshness::Copy(original) = &seen
            && written
            && !evidence.own_trail
        {
            if !evidence.accept_rollback {
                return Err(VaultError::IsCopy(original.clone()));
            }
            // Of the two the one that was seen first counts as the vault, and need not be it.
            findings.set_back([format!(
                "this machine took it for a copy of the vault in {}; it is the vault from now on, and \
                 that one a copy of it",
                original.shown()
            )]);
            is_named = true;
        }
        findings.set_back(key_file_set_back(claim, known.as_ref(), evidence));
        if let Some(record) = &known {
            by_the_record(record, claim, &mut findings);
        }
        let newest = known.as_ref().map_or(trail_knows, |record| record.epoch.max(trail_knows));
        if claim.epochs.is_none() && newest == Epoch(0) {
            return Err(VaultError::Damaged(state::FILE));
        }
        let is_silent = matches!(seen, Freshness::Copy(_)) && !written;
        // Only a rename or a bind mount keeps the inode: what else is in another place may be a copy of
        // a vault that comes back, whose record stays.
        let goes_on = |record: &Record| record.directory == here || record.inode == inode;
        let is_kept = known.as_ref().is_some_and(goes_on);
        let mut own = known.filter(goes_on).unwrap_or_else(|| Record {
            id: RecordId::random(),
            directory: String::new(),
            inode,
            epoch: claim.epochs.map_or(newest, newest_known),
            open: claim.epochs.is_none_or(|epochs| epochs.open),
            key_file: evidence.key_file.clone(),
            trail: None,
            foreign_trail: matches!(seen, Freshness::FirstSeen)
                .then(|| claim.trail.map(|(mark, _)| mark.directory.clone()))
                .flatten(),
            copy: matches!(seen, Freshness::Copy(_)) && !is_named,
            moved: matches!(seen, Freshness::Moved(_)),
        });
        // A bind mount may go, and the directory is still where it was.
        if !is_at(&own, &is) {
            own.directory = here.into_owned();
        }
        own.inode = inode;
        if is_named {
            (own.copy, own.moved) = (false, false);
        }
        let seen = judged(findings, seen, evidence)?;
        let watch = Self { place, key, vault, own, is_kept, is_silent, is_damaged, is_named };
        Ok((Some(watch), seen))
    }

    /// The record's id, and the mount that it is known to have been told of.
    pub fn told(&self) -> Option<(RecordId, Epoch)> {
        self.is_kept.then_some((self.own.id, self.own.epoch))
    }

    /// Where the trail was by the vault when this machine first saw it.
    pub fn foreign_trail(&self) -> Option<&str> {
        self.own.foreign_trail.as_deref()
    }

    /// Whoever mounts it names the place of its trail.
    pub fn trust_trail(&mut self) {
        self.own.foreign_trail = None;
    }

    /// The newest mount that this machine knows of.
    pub fn newest(&self) -> Epoch {
        self.own.epoch
    }

    /// Writes down, durably, what the vault has come to.
    ///
    /// # Errors
    /// What the filesystem of the record says: what was there stays.
    pub fn note(&mut self, epochs: &EpochRecord, marks: &Marks) -> io::Result<()> {
        if self.is_silent {
            return Ok(());
        }
        let (epoch, open) = match epochs.is_beginning() {
            true => (self.own.epoch, self.own.open),
            false => (epochs.current, epochs.open),
        };
        let own = Record {
            epoch,
            open,
            key_file: marks.key_file.clone(),
            trail: marks.trail.clone(),
            ..self.own.clone()
        };
        let files = OwnFiles::in_directory(&self.place)?;
        let _lock = lock(&files, &self.vault)?;
        let mut records = match read_from(&files, &self.vault, &self.key) {
            Ok(records) => records,
            Err(ReadError::Damaged) if self.is_damaged => Vec::new(),
            Err(ReadError::Damaged) => return Err(io::ErrorKind::InvalidData.into()),
            Err(ReadError::Io(error)) => return Err(error),
        };
        // Another vault's place can't be this one's at the same time.
        records.retain(|record| record.id != own.id && record.directory != own.directory);
        records.iter_mut().for_each(|other| other.copy |= self.is_named);
        records.push(own.clone());
        let bytes = Records { vault: self.vault, records }.into_bytes(&self.key)?;
        files.replace(&name_of(&self.vault), &bytes)?;
        (self.own, self.is_kept, self.is_damaged) = (own, true, false);
        Ok(())
    }

    /// Where the records lie.
    pub fn path(&self) -> PathBuf {
        file_of(&self.place, &self.vault)
    }
}

/// Whether a record of the vault is kept on this machine, and where: for who has no key to read it.
pub fn path_of_record(vault: &VolumeId) -> Option<PathBuf> {
    default_place().map(|place| file_of(&place, vault)).filter(|path| path.exists())
}

/// Where the trail of the vault in `dir` was when this machine first saw it, by the records in `place`.
pub(super) fn foreign_trail_in(
    place: &Path,
    dir: &Path,
    vault: &VolumeId,
    key: &MacKey,
) -> Option<String> {
    let here = std::fs::canonicalize(dir).ok()?;
    let is = rustix::fs::stat(&here).ok()?;
    let records = read(place, vault, key).ok()?;
    record_of(&records, &here.to_string_lossy(), &is)?.foreign_trail.clone()
}

/// The newest state of a vault's key file, by the records in `place`.
pub(super) fn newest_key_file(place: &Path, vault: &VolumeId, key: &MacKey) -> Option<KeyFileMark> {
    let records = read(place, vault, key).unwrap_or_default();
    records.into_iter().map(|record| record.key_file).max_by_key(|mark| mark.generation)
}

/// What is wrong with a vault's age.
#[derive(Debug, Default)]
struct Findings {
    /// One is older than another says.
    set_back: Vec<String>,
    /// What would tell can't be used.
    unproven: Vec<String>,
}

impl Findings {
    fn set_back(&mut self, what: impl IntoIterator<Item = String>) {
        self.set_back.extend(what);
    }

    fn unproven(&mut self, what: String) {
        self.unproven.push(what);
    }
}

/// What the vault itself tells of its trail.
fn by_the_vault(claim: Claim<'_>) -> Findings {
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
    findings
}

fn by_the_record(last: &Record, claim: Claim<'_>, findings: &mut Findings) {
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
    if last.trail != claim.marks.trail {
        let trail = claim.trail.map(|(mark, _)| mark);
        findings.set_back(trail_set_back(last.trail.as_ref(), trail));
    }
}

/// Of the vault and this machine the one that has seen the newer key file counts: the other was not
/// told, as a vault on a read-only filesystem.
fn key_file_set_back(claim: Claim<'_>, known: Option<&Record>, evidence: &Evidence) -> Vec<String> {
    let vault = &claim.marks.key_file;
    let machine = known.map(|record| &record.key_file);
    let newest = vault.generation.max(machine.map_or(0, |mark| mark.generation));
    // What both say is said once.
    let machine = machine.filter(|mark| *mark != vault);
    let newest = [Some(vault), machine].into_iter().flatten().filter(|m| m.generation == newest);
    newest.filter_map(|mark| evidence.contradicts(mark)).collect()
}

/// The newest mount that can be known outside of the vault.
fn newest_known(epochs: &EpochRecord) -> Epoch {
    Epoch(epochs.current.0 - u64::from(epochs.is_beginning()))
}

fn mounts(epoch: Epoch) -> String {
    if epoch.0 == 1 { "1 mount".to_owned() } else { format!("{} mounts", epoch.0) }
}

fn trail_set_back(seen: Option<&TrailMark>, now: Option<&TrailMark>) -> Option<String> {
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

fn judged(
    findings: Findings,
    seen: Freshness,
    evidence: &Evidence,
) -> Result<Freshness, VaultError> {
    let Findings { set_back, unproven } = findings;
    match (set_back.is_empty() && unproven.is_empty(), evidence.accept_rollback) {
        (true, _) => Ok(seen),
        (false, true) => Ok(Freshness::Accepted([set_back, unproven].concat())),
        (false, false) if set_back.is_empty() => Err(VaultError::Unproven(unproven)),
        (false, false) => Err(VaultError::SetBack([set_back, unproven].concat())),
    }
}
