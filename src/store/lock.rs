//! The vault's lock: a file that the process which has the vault open locks and writes its id to.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use super::VaultError;
use super::own_files::OwnFiles;
use crate::sys;

/// The file below `.atrest/`.
pub const FILE: &str = "lock";
/// Bytes of the lock file at least, which is never cut to less and written in place: on a full disk
/// it has room already.
const LOCK_LEN: usize = 512;

/// The process that has a vault open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// Its id; `None` where it left none, as one that only reads.
    pub pid: Option<u32>,
}

/// Locks the vault for this process.
///
/// # Errors
/// [`VaultError::Locked`]; [`VaultError::Io`].
pub fn take(own: &OwnFiles) -> Result<File, VaultError> {
    let file = own.open_lock(FILE)?;
    if sys::try_lock(&file)? {
        return Ok(file);
    }
    let mut lines = Vec::new();
    file.take(LOCK_LEN as u64).read_to_end(&mut lines)?;
    let pid = lines.split(|byte| *byte == b'\n').next().map(String::from_utf8_lossy);
    Err(VaultError::Locked(pid.and_then(|pid| pid.parse().ok())))
}

/// Writes this process's id to the lock file, for processes that find it locked. On a full disk it is
/// left out.
pub fn note_holder(lock: &File) -> Result<(), VaultError> {
    write(lock, format!("{}\n", std::process::id())).or_else(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Ok(()),
        _ => Err(error.into()),
    })
}

/// Lines in the lock file, filled up with empty ones. Where it has another name nothing is written: the
/// other one may be that of somebody else's file.
pub fn write(lock: &File, lines: String) -> io::Result<()> {
    if !sys::has_one_name(lock)? {
        return Ok(());
    }
    let mut bytes = lines.into_bytes();
    bytes.resize(bytes.len().max(LOCK_LEN), b'\n');
    lock.write_all_at(&bytes, 0)?;
    lock.set_len(bytes.len() as u64)
}
