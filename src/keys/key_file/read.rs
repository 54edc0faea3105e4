//! Reading a key file, unless its owner, mode or kind is unsafe.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, OFlags};
use zeroize::Zeroizing;

use crate::keys::KeyFileError;
use crate::sys::{self, Links, NotRegular};

/// The longest key file in bytes: about 50,000 versions.
pub(super) const MAX_LEN: u64 = 16 * 1024 * 1024;

/// The bytes of the key file at `path`.
///
/// # Errors
/// [`KeyFileError::Missing`], [`KeyFileError::NotRegular`], [`KeyFileError::Exposed`],
/// [`KeyFileError::WrongOwner`], [`KeyFileError::Damaged`] when it is empty or too large,
/// [`KeyFileError::Io`].
pub(super) fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    // A replaced file is wiped after it is unlinked: bytes are whole if the file still has a name.
    loop {
        let (bytes, still_named) = read_once(path)?;
        if still_named {
            return Ok(bytes);
        }
    }
}

fn read_once(path: &Path) -> Result<(Zeroizing<Vec<u8>>, bool), KeyFileError> {
    let io = |source| KeyFileError::io("read key file", path, source);
    let opened = sys::open_regular(CWD, path, OFlags::RDONLY, Links::Follow);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
        _ if NotRegular::is(&error) => KeyFileError::NotRegular(path.to_owned()),
        _ => io(error),
    })?;
    let found = file.metadata().map_err(io)?;
    let (mode, owner) = (found.mode() & 0o7777, found.uid());
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(KeyFileError::WrongOwner { path: path.to_owned(), owner });
    }
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    if found.len() == 0 || found.len() > MAX_LEN {
        return Err(KeyFileError::Damaged(path.to_owned()));
    }
    let mut bytes = Zeroizing::new(vec![0; found.len() as usize]);
    file.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => KeyFileError::Damaged(path.to_owned()),
        _ => io(error),
    })?;
    let still_named = file.metadata().map_err(io)?.nlink() > 0;
    Ok((bytes, still_named))
}
