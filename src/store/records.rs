//! What this machine keeps of one vault: a file of records, one for each directory in which it was.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

use super::description::Description;
use super::marks::TrailMark;
use super::own_files::OwnFiles;
use crate::crypto::MacKey;
use crate::format::{Authenticated, Epoch, RecordId, VaultId};
use crate::keys::KeyFileMark;
use crate::sys;

/// What a machine knows of a vault in one directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub id: RecordId,
    /// Bytes that are not UTF-8 are U+FFFD.
    pub directory: String,
    /// The inode number of that directory.
    pub inode: u64,
    pub epoch: Epoch,
    pub open: bool,
    #[serde(flatten)]
    pub key_file: KeyFileMark,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail: Option<TrailMark>,
    /// Where the trail was by the vault when this machine first saw it: another machine's place, or
    /// another user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub foreign_trail: Option<String>,
    /// It was made for a copy of a vault that lay elsewhere.
    #[serde(default)]
    pub copy: bool,
    /// It was made for a vault that lay elsewhere and was there no more: moved, or a copy of one that
    /// comes back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub moved: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Records {
    pub vault: VaultId,
    pub records: Vec<Record>,
}

/// The vault whose trail, in `directory`, a copy of it would go on with, where it has not got one of
/// its own.
pub(super) fn shares_trail(
    own: &Record,
    records: &[Record],
    directory: Option<&str>,
    vault: &VaultId,
) -> Option<PathBuf> {
    let directory = directory.filter(|_| own.copy || own.moved)?;
    let has_it = |other: &&Record| {
        let trail = other.trail.as_ref();
        other.id != own.id
            && !other.copy
            && !other.moved
            && trail.is_some_and(|trail| trail.directory == directory)
            // What was taken for moved is that, unless the original is back.
            && (own.copy || lies_there(other, vault))
    };
    records.iter().find(has_it).map(|other| PathBuf::from(&other.directory))
}

/// The record of the directory at the path `here`, which `is` that; also where it was seen at another
/// path, which a bind mount gives it.
pub(super) fn record_of<'a>(records: &'a [Record], here: &str, is: &Stat) -> Option<&'a Record> {
    let at_path = records.iter().find(|record| record.directory == here);
    at_path.or_else(|| {
        records.iter().filter(|record| is_at(record, is)).max_by_key(|record| record.epoch)
    })
}

/// Whether a directory is the one that a record is of, and is still where it was seen.
pub(super) fn is_at(record: &Record, is: &Stat) -> bool {
    let there = || rustix::fs::lstat(&record.directory);
    record.inode == is.st_ino
        && there().is_ok_and(|there| (there.st_dev, there.st_ino) == (is.st_dev, is.st_ino))
}

fn lies_there(record: &Record, vault: &VaultId) -> bool {
    let dir = Path::new(&record.directory);
    Description::of(dir).is_ok_and(|found| found.vault == *vault)
}

/// The record of another directory that this vault was in, and whether it lies there still.
pub(super) fn other_place(
    records: &[Record],
    vault: &VaultId,
    inode: u64,
) -> Option<(Record, bool)> {
    if let Some(record) = records.iter().find(|record| lies_there(record, vault)) {
        return Some((record.clone(), true));
    }
    let moved = records.iter().filter(|record| record.inode == inode);
    let newest = moved.max_by_key(|record| record.epoch);
    newest
        .or_else(|| records.iter().max_by_key(|record| record.epoch))
        .map(|found| (found.clone(), false))
}

pub(super) enum ReadError {
    Damaged,
    Io(io::Error),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

pub(super) fn read(place: &Path, vault: &VaultId, key: &MacKey) -> Result<Vec<Record>, ReadError> {
    match OwnFiles::at(place) {
        Ok(files) => read_from(&files, vault, key),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn read_from(
    files: &OwnFiles,
    vault: &VaultId,
    key: &MacKey,
) -> Result<Vec<Record>, ReadError> {
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
    pub fn into_bytes(self, key: &MacKey) -> io::Result<Vec<u8>> {
        Authenticated::new(self, key)?.to_lines()
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

pub(super) fn name_of(vault: &VaultId) -> String {
    format!("{vault}.freshness")
}

pub(super) fn file_of(place: &Path, vault: &VaultId) -> PathBuf {
    place.join(name_of(vault))
}

/// Two mounts of one vault's copies write one file.
pub(super) fn lock(files: &OwnFiles, vault: &VaultId) -> io::Result<File> {
    let file = files.open_lock(&format!("{vault}.lock"))?;
    sys::lock(&file)?;
    Ok(file)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(is: &bool) -> bool {
    !is
}
