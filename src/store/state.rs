//! The record of mounts as a file of the vault's own: JSON with a MAC.

use std::io;

use serde::{Deserialize, Serialize};

use super::marks::Marks;
use super::own_files::OwnFiles;
use super::{EpochRecord, VaultError};
use crate::crypto::MacKey;
use crate::format::Authenticated;

/// Its name.
pub(super) const FILE: &str = "state.json";
/// Its length is a multiple of this.
const STATE_UNIT: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Content {
    #[serde(flatten)]
    record: EpochRecord,
    #[serde(flatten)]
    marks: Marks,
}

/// The record without being authenticated; `None` where it can't be read.
pub fn peek(own: &OwnFiles) -> Option<EpochRecord> {
    Some(parse_unauthenticated(&own.read(FILE).ok()?)?.0)
}

pub(super) fn parse_unauthenticated(bytes: &[u8]) -> Option<(EpochRecord, Marks)> {
    let found: Authenticated<Content> = serde_json::from_slice(bytes).ok()?;
    let (Content { record, marks }, _) = found.into_unverified();
    Some((record, marks))
}

/// Reads and authenticates the record.
///
/// # Errors
/// [`VaultError::Damaged`]; [`VaultError::Io`].
pub fn read(own: &OwnFiles, key: &MacKey) -> Result<(EpochRecord, Marks), VaultError> {
    let bytes = own.read(FILE).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => VaultError::Damaged(FILE),
        _ => VaultError::Io(error),
    })?;
    parse(&bytes, key)
}

/// The record in the file's bytes, authenticated.
pub(super) fn parse(bytes: &[u8], key: &MacKey) -> Result<(EpochRecord, Marks), VaultError> {
    let damaged = || VaultError::Damaged(FILE);
    if !bytes.ends_with(b"\n") {
        return Err(damaged());
    }
    let Content { record, marks } = Authenticated::open(bytes, key).ok_or_else(damaged)?;
    Ok((record, marks))
}

/// Writes the record, durably.
///
/// # Errors
/// [`VaultError::Io`], as [`OwnFiles::replace`].
pub fn write(
    own: &OwnFiles,
    key: &MacKey,
    record: &EpochRecord,
    marks: &Marks,
) -> Result<(), VaultError> {
    Ok(own.replace(FILE, &to_bytes(key, record, marks)?)?)
}

/// The file's bytes.
pub(super) fn to_bytes(
    key: &MacKey,
    record: &EpochRecord,
    marks: &Marks,
) -> Result<Vec<u8>, VaultError> {
    let content = Content { record: record.clone(), marks: marks.clone() };
    Ok(Authenticated::new(content, key)?.to_line(STATE_UNIT)?)
}
