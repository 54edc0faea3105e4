//! The record of mounts as a file of the vault's own: JSON with a MAC.

use std::io;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::marks::Marks;
use super::own_files::OwnFiles;
use super::{EpochRecord, VaultError, description};
use crate::crypto::MacKey;

const STATE: &str = "state.json";
/// The file is filled up with spaces to a multiple of this, so that the next one is as long and
/// can be written over it where the disk is full.
const STATE_UNIT: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    record: EpochRecord,
    #[serde(flatten)]
    marks: Marks,
}

#[derive(Serialize, Deserialize)]
struct State {
    #[serde(flatten)]
    content: Content,
    mac: String,
}

/// The record without being authenticated; `None` where it can't be read.
pub fn peek(own: &OwnFiles) -> Option<EpochRecord> {
    Some(parse_unauthenticated(&own.read(STATE).ok()?)?.0)
}

pub(super) fn parse_unauthenticated(bytes: &[u8]) -> Option<(EpochRecord, Marks)> {
    let State { content: Content { record, marks }, .. } = serde_json::from_slice(bytes).ok()?;
    Some((record, marks))
}

/// Reads and authenticates the record.
///
/// # Errors
/// [`VaultError::Damaged`]; [`VaultError::Io`].
pub fn read(own: &OwnFiles, key: &MacKey) -> Result<(EpochRecord, Marks), VaultError> {
    let bytes = own.read(STATE).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => VaultError::Damaged(STATE),
        _ => VaultError::Io(error),
    })?;
    parse(&bytes, key)
}

/// The record in the file's bytes, authenticated.
pub(super) fn parse(bytes: &[u8], key: &MacKey) -> Result<(EpochRecord, Marks), VaultError> {
    let damaged = || VaultError::Damaged(STATE);
    if !bytes.ends_with(b"\n") {
        return Err(damaged());
    }
    let state: State = serde_json::from_slice(bytes).map_err(|_| damaged())?;
    let mac = description::decode(&state.mac).map_err(|_| damaged())?;
    let Content { record, marks } = state.content;
    key.verify(&covered(&record, &marks)?, &mac).map_err(|_| damaged())?;
    Ok((record, marks))
}

/// Writes the record, durably.
///
/// # Errors
/// [`VaultError::Io`]: the old one is then still there.
pub fn write(
    own: &OwnFiles,
    key: &MacKey,
    record: &EpochRecord,
    marks: &Marks,
) -> Result<(), VaultError> {
    Ok(own.replace(STATE, &to_bytes(key, record, marks)?)?)
}

/// The file's bytes.
pub(super) fn to_bytes(
    key: &MacKey,
    record: &EpochRecord,
    marks: &Marks,
) -> Result<Vec<u8>, VaultError> {
    let mac = BASE64_STANDARD.encode(key.mac(&covered(record, marks)?));
    let content = Content { record: record.clone(), marks: marks.clone() };
    let state = State { content, mac };
    let mut bytes = serde_json::to_vec(&state).map_err(io::Error::from)?;
    bytes.resize((bytes.len() + 1).next_multiple_of(STATE_UNIT) - 1, b' ');
    bytes.push(b'\n');
    Ok(bytes)
}

/// What the state's MAC covers.
fn covered(record: &EpochRecord, marks: &Marks) -> Result<Vec<u8>, VaultError> {
    let content = Content { record: record.clone(), marks: marks.clone() };
    Ok(serde_json::to_vec(&content).map_err(io::Error::from)?)
}
