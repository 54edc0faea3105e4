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
//! | begin: the vault's record of mounts, then this one | this one is a mount behind, and known to be no newer |
//! | end: the vault's record of mounts, then this one | this one says that the mount runs; the vault, that it ended |

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::authentic::Authenticated;
use super::marks::{Marks, TrailMark};
use super::own_files::OwnFiles;
use super::{EpochRecord, Vault, VaultError};
use crate::crypto::MacKey;
use crate::format::{Epoch, RecordId, VolumeId};
use crate::sys::{self, Show};

/// What is known beside the vault when it is opened.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// Where records are kept; `None` where there is no place for them.
    pub place: Option<PathBuf>,
    /// How often the key file has been written.
    pub key_file: u64,
    /// What was put back is accepted as it is.
    pub accept_rollback: bool,
    /// A copy of a vault may be written: its trail is not the original's.
    pub own_trail: bool,
}

impl Evidence {
    /// With records in the default place: `atrest` in [`sys::state_home`], or in `/var/lib` for root
    /// without a home, as at boot.
    pub fn new(key_file: u64) -> Self {
        Self { place: default_place(), key_file, accept_rollback: false, own_trail: false }
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

/// What a machine knows of a vault in one directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    id: RecordId,
    /// Bytes that are not UTF-8 are U+FFFD.
    directory: String,
    /// The inode number of that directory.
    inode: u64,
    epoch: Epoch,
    open: bool,
    key_file: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trail: Option<TrailMark>,
    /// It was made for a copy of a vault that lay elsewhere.
    #[serde(default)]
    copy: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Records {
    vault: VolumeId,
    records: Vec<Record>,
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
}

/// What the vault says of itself.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// Its record of mounts.
    pub epochs: &'a EpochRecord,
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
        let mut findings = by_the_vault(claim, evidence);
        let Some(place) = evidence.place.clone() else {
            return Ok((None, judged(findings, Freshness::NoPlace, evidence)?));
        };
        let directory = std::fs::canonicalize(dir)?;
        let inode = rustix::fs::fstat(root)?.st_ino;
        let (records, is_damaged) = match read(&place, &vault, &key) {
            Ok(records) => (records, false),
            Err(ReadError::Damaged) => {
                let path = file_of(&place, &vault);
                findings.push(format!(
                    "this machine's record of it, {}, is damaged or was made with other keys",
                    path.shown()
                ));
                (Vec::new(), true)
            }
            Err(ReadError::Io(error)) => {
                let path = file_of(&place, &vault);
                findings.push(format!(
                    "this machine's record of it, {}, can't be read: {error}",
                    path.shown()
                ));
                (Vec::new(), false)
            }
        };
        let here = directory.to_string_lossy();
        let known = records.iter().find(|record| record.directory == here);
        let elsewhere = || known.is_none().then(|| other_place(&records, &vault, inode)).flatten();
        let (known, seen) = match (known, elsewhere()) {
            (Some(record), _) => {
                let seen = match shares_trail(record, &records, claim) {
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
        if let Freshness::Copy(original) = &seen
            && written
            && !evidence.own_trail
        {
            return Err(VaultError::IsCopy(original.clone()));
        }
        if let Some(record) = &known {
            findings.extend(by_the_record(record, claim, evidence));
        }
        let is_silent = matches!(seen, Freshness::Copy(_)) && !written;
        let mut own = known.clone().unwrap_or_else(|| Record {
            id: RecordId::random(),
            directory: String::new(),
            inode,
            epoch: claim.epochs.current,
            open: claim.epochs.open,
            key_file: evidence.key_file,
            trail: None,
            copy: matches!(seen, Freshness::Copy(_)),
        });
        (own.directory, own.inode) = (here.into_owned(), inode);
        let seen = judged(findings, seen, evidence)?;
        let watch =
            Self { place, key, vault, own, is_kept: known.is_some(), is_silent, is_damaged };
        Ok((Some(watch), seen))
    }

    /// The record's id, and the mount that it is known to have been told of.
    pub fn told(&self) -> Option<(RecordId, Epoch)> {
        self.is_kept.then_some((self.own.id, self.own.epoch))
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
        let own = Record {
            epoch: epochs.current,
            open: epochs.open,
            key_file: marks.key_file,
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

/// How often the key file of a vault had been written, by the records in `place`.
pub(super) fn newest_key_file(place: &Path, vault: &VolumeId, key: &MacKey) -> u64 {
    let records = read(place, vault, key).unwrap_or_default();
    records.iter().map(|record| record.key_file).max().unwrap_or(0)
}

/// What the vault itself tells of its key file and its trail.
fn by_the_vault(claim: Claim<'_>, evidence: &Evidence) -> Vec<String> {
    let mut findings = Vec::new();
    findings.extend(key_file_set_back(claim.marks.key_file, evidence.key_file));
    let trail = claim.trail.map(|(mark, _)| mark);
    findings.extend(trail_set_back(claim.marks.trail.as_ref(), trail));
    if let Some((_, epoch)) = claim.trail
        && epoch > claim.epochs.current
    {
        findings.push(format!(
            "its record of mounts knows of {} and its record of the trail of {}",
            mounts(claim.epochs.current),
            mounts(epoch)
        ));
    }
    findings
}

fn by_the_record(record: &Record, claim: Claim<'_>, evidence: &Evidence) -> Vec<String> {
    let (now, last) = (claim.epochs, record);
    let mut findings = Vec::new();
    if now.current < last.epoch {
        findings.push(format!(
            "it knows of {} and this machine of {}",
            mounts(now.current),
            mounts(last.epoch)
        ));
    } else if now.current == last.epoch && now.open && !last.open {
        findings.push(format!(
            "it says that its last mount, number {}, did not end, and this machine saw it end",
            last.epoch.0
        ));
    }
    if claim.marks.told(&record.id) > last.epoch {
        findings.push(format!(
            "this machine's record of it was put back: the vault told it of {}, and it knows of {}",
            mounts(claim.marks.told(&record.id)),
            mounts(last.epoch)
        ));
    }
    // What both say is said once.
    if last.key_file > claim.marks.key_file {
        findings.extend(key_file_set_back(last.key_file, evidence.key_file));
    }
    if last.trail != claim.marks.trail {
        findings.extend(trail_set_back(last.trail.as_ref(), claim.trail.map(|(mark, _)| mark)));
    }
    findings
}

fn mounts(epoch: Epoch) -> String {
    if epoch.0 == 1 { "1 mount".to_owned() } else { format!("{} mounts", epoch.0) }
}

fn key_file_set_back(seen: u64, now: u64) -> Option<String> {
    (now < seen).then(|| {
        format!("its key file is of state {now}, and was of state {seen} when last used with it")
    })
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
    findings: Vec<String>,
    seen: Freshness,
    evidence: &Evidence,
) -> Result<Freshness, VaultError> {
    match (findings.is_empty(), evidence.accept_rollback) {
        (true, _) => Ok(seen),
        (false, true) => Ok(Freshness::Accepted(findings)),
        (false, false) => Err(VaultError::SetBack(findings)),
    }
}

/// The vault whose trail a copy of it would go on with, where it has not got one of its own.
fn shares_trail(own: &Record, records: &[Record], claim: Claim<'_>) -> Option<PathBuf> {
    let (mark, _) = claim.trail.filter(|_| own.copy)?;
    let has_it = |other: &&Record| {
        let trail = other.trail.as_ref();
        !other.copy && trail.is_some_and(|trail| trail.directory == mark.directory)
    };
    records.iter().find(has_it).map(|other| PathBuf::from(&other.directory))
}

/// The record of another directory that this vault was in, and whether it lies there still.
fn other_place(records: &[Record], vault: &VolumeId, inode: u64) -> Option<(Record, bool)> {
    let lies_there = |record: &&Record| {
        let dir = Path::new(&record.directory);
        Vault::describe(dir).is_ok_and(|found| found.vault == *vault)
    };
    if let Some(record) = records.iter().find(lies_there) {
        return Some((record.clone(), true));
    }
    let moved = records.iter().filter(|record| record.inode == inode);
    let newest = moved.max_by_key(|record| record.epoch);
    newest
        .or_else(|| records.iter().max_by_key(|record| record.epoch))
        .map(|found| (found.clone(), false))
}

enum ReadError {
    Damaged,
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn read(place: &Path, vault: &VolumeId, key: &MacKey) -> Result<Vec<Record>, ReadError> {
    match OwnFiles::at(place) {
        Ok(files) => read_from(&files, vault, key),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

fn read_from(files: &OwnFiles, vault: &VolumeId, key: &MacKey) -> Result<Vec<Record>, ReadError> {
    let bytes = match files.read(&name_of(vault)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let content =
        Authenticated::open(&bytes, key).filter(|content: &Records| content.vault == *vault);
    content.map(|content| content.records).ok_or(ReadError::Damaged)
}

impl Records {
    /// The file's bytes.
    fn into_bytes(self, key: &MacKey) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(&Authenticated::new(self, key)?)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Records without their MAC: written, authenticated and written again they are the same.
#[cfg(any(test, fuzzing))]
pub(super) fn fuzz_records(bytes: &[u8], key: &MacKey) -> bool {
    let Ok(content) = serde_json::from_slice::<Records>(bytes) else { return false };
    let written = content.into_bytes(key).expect("records are JSON");
    let again: Records = Authenticated::open(&written, key).expect("what was written is authentic");
    assert_eq!(again.into_bytes(key).expect("records are JSON"), written);
    true
}

fn name_of(vault: &VolumeId) -> String {
    format!("{vault}.freshness")
}

fn file_of(place: &Path, vault: &VolumeId) -> PathBuf {
    place.join(name_of(vault))
}

/// Two mounts of one vault's copies write one file.
fn lock(files: &OwnFiles, vault: &VolumeId) -> io::Result<File> {
    let file = files.open_lock(&format!("{vault}.lock"))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
