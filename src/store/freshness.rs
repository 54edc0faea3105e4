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

use rustix::fs::Stat;

use super::findings::{
    Claim, Findings, by_the_record, by_the_vault, key_file_set_back, lost_record, newest_known,
    usable, without_record,
};
use super::marks::{MachineTag, Marks};
use super::own_files::OwnFiles;
use super::records::{
    ReadError, Record, Records, file_of, is_at, lock, name_of, other_place, read, read_from,
    record_of, shares_trail,
};
use super::{EpochRecord, VaultError, state};
use crate::crypto::MacKey;
use crate::format::{Epoch, RecordId, VaultId};
use crate::keys::KeyFileMark;
use crate::sys::{self, Show};

/// What is known beside the vault when it is opened.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Where records are kept; `None` where there is no place for them.
    pub place: Option<PathBuf>,
    /// [`sys::machine_id`]: with the place it tells this machine's records from another's.
    pub machine: Option<String>,
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
    /// With records in the default place: [`sys::state_directory`], in `/var/lib` at boot.
    pub fn new(key_file: KeyFileMark) -> Self {
        let (place, machine) = (default_place(), sys::machine_id());
        Self {
            place,
            machine,
            key_file,
            is_change: false,
            accept_rollback: false,
            own_trail: false,
        }
    }

    /// Why the key file is not to be used with what the vault and `known` have seen of it.
    fn key_file_set_back(&self, claim: Claim<'_>, known: Option<&Record>) -> Vec<String> {
        match self.is_change {
            true => Vec::new(),
            false => {
                let known = known.map(|record| &record.key_file);
                key_file_set_back(claim.marks, known, &self.key_file)
            }
        }
    }
}

/// Where records of vaults lie unless told otherwise; `None` where there is no such place.
pub fn default_place() -> Option<PathBuf> {
    sys::state_directory("/var/lib")
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
    machine: Option<MachineTag>,
    key: MacKey,
    vault: VaultId,
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

impl Watch {
    /// Finds the record of the vault that lies in `dir`, and compares.
    ///
    /// # Errors
    /// [`VaultError::SetBack`] unless `evidence` accepts that; [`VaultError::IsCopy`] where a copy is to
    /// be `written` without a trail of its own; [`VaultError::Io`].
    pub fn begin(
        (dir, root): (&Path, impl AsFd),
        (vault, key): (VaultId, MacKey),
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
            findings.set_back(evidence.key_file_set_back(claim, None));
            return Ok((None, judged(findings, Freshness::NoPlace, evidence)?));
        };
        let directory = std::fs::canonicalize(dir)?;
        let is = rustix::fs::fstat(root)?;
        let inode = is.st_ino;
        let machine = evidence.machine.as_deref().map(|id| MachineTag::of(id, &place, &key));
        let file = file_of(&place, &vault);
        let read = read(&place, &vault, &key);
        let is_damaged = matches!(read, Err(ReadError::Damaged));
        let (records, unusable) = usable(read, &file);
        let lost = lost_record(claim.marks, machine.as_ref(), &records);
        // Where none can be used, that is all there is to tell.
        let missing = lost.map(|(_, told)| without_record(&file, &records, told));
        unusable.or(missing).into_iter().for_each(|what| findings.unproven(what));
        let here = directory.to_string_lossy();
        let trail = claim.trail.map(|(mark, _)| mark.directory.as_str());
        let (known, seen) = look_up(&records, &vault, (&here, &is), trail);
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
        findings.set_back(evidence.key_file_set_back(claim, known.as_ref()));
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
        let is_kept = known.as_ref().is_some_and(goes_on) && lost.is_none();
        let mut own = known.filter(goes_on).unwrap_or_else(|| Record {
            id: RecordId::random(),
            directory: String::new(),
            inode,
            epoch: claim.epochs.map_or(newest, newest_known),
            open: claim.epochs.is_none_or(|epochs| epochs.open),
            key_file: evidence.key_file.clone(),
            trail: None,
            foreign_trail: (matches!(seen, Freshness::FirstSeen) && lost.is_none())
                .then(|| claim.trail.map(|(mark, _)| mark.directory.clone()))
                .flatten(),
            copy: matches!(seen, Freshness::Copy(_)) && !is_named,
            moved: matches!(seen, Freshness::Moved(_)),
        });
        // Under its name the vault, and each copy of that, finds what was lost again.
        own.id = lost.map_or(own.id, |(id, _)| id);
        // A bind mount may go, and the directory is still where it was.
        if !is_at(&own, &is) {
            own.directory = here.into_owned();
        }
        own.inode = inode;
        if is_named {
            (own.copy, own.moved) = (false, false);
        }
        let seen = judged(findings, seen, evidence)?;
        let watch =
            Self { place, machine, key, vault, own, is_kept, is_silent, is_damaged, is_named };
        Ok((Some(watch), seen))
    }

    /// Has the vault remember of which mount this machine is known to have been told.
    pub fn note_told(&self, marks: &mut Marks) {
        if self.is_kept {
            marks.note_told(self.own.id, self.own.epoch, self.machine.clone());
        }
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
pub fn path_of_record(vault: &VaultId) -> Option<PathBuf> {
    default_place().map(|place| file_of(&place, vault)).filter(|path| path.exists())
}

/// Where the trail of the vault in `dir` was when this machine first saw it, by the records in `place`.
pub(super) fn foreign_trail_in(
    place: &Path,
    dir: &Path,
    vault: &VaultId,
    key: &MacKey,
) -> Option<String> {
    let here = std::fs::canonicalize(dir).ok()?;
    let is = rustix::fs::stat(&here).ok()?;
    let records = read(place, vault, key).ok()?;
    record_of(&records, &here.to_string_lossy(), &is)?.foreign_trail.clone()
}

/// The newest state of a vault's key file, by the records in `place`.
pub(super) fn newest_key_file(place: &Path, vault: &VaultId, key: &MacKey) -> Option<KeyFileMark> {
    let records = read(place, vault, key).unwrap_or_default();
    records.into_iter().map(|record| record.key_file).max_by_key(|mark| mark.generation)
}

/// What this machine knows of the vault in the directory `is`, at the path `here`. `trail` is where the
/// vault says that its trail lies.
pub(super) fn look_up(
    records: &[Record],
    vault: &VaultId,
    (here, is): (&str, &Stat),
    trail: Option<&str>,
) -> (Option<Record>, Freshness) {
    if let Some(record) = record_of(records, here, is) {
        let seen = match shares_trail(record, records, trail, vault) {
            Some(original) => Freshness::Copy(original),
            None => Freshness::Fresh,
        };
        return (Some(record.clone()), seen);
    }
    match other_place(records, vault, is.st_ino) {
        Some((record, true)) => (None, Freshness::Copy(record.directory.into())),
        Some((record, false)) => {
            let from = PathBuf::from(&record.directory);
            (Some(record), Freshness::Moved(from))
        }
        None => (None, Freshness::FirstSeen),
    }
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
