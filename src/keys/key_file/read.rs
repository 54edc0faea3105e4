//! Reading a key file, and refusing what is not safe to read as one.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, OFlags};
use zeroize::Zeroizing;

use crate::keys::KeyError;
use crate::sys::{self, Links, NotRegular};

/// The largest key file, in bytes: some 50,000 versions.
pub(super) const MAX_LEN: u64 = 16 * 1024 * 1024;

/// The bytes of the key file at `path`.
///
/// # Errors
/// [`KeyError::Missing`], [`KeyError::NotRegular`], [`KeyError::Exposed`],
/// [`KeyError::WrongOwner`], [`KeyError::Damaged`] when it is empty or too large,
/// [`KeyError::Io`].
pub(super) fn read_key_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    // A file that is replaced is wiped once it has no name, so bytes read while it has are whole.
    loop {
        let (bytes, still_named) = read_once(path)?;
        if still_named {
            return Ok(bytes);
        }
    }
}

fn read_once(path: &Path) -> Result<(Zeroizing<Vec<u8>>, bool), KeyError> {
    let io = |source| KeyError::io("read key file", path, source);
    let opened = sys::open_regular(CWD, path, OFlags::RDONLY, Links::Follow);
    let mut file = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyError::Missing(path.to_owned()),
        _ if NotRegular::is(&error) => KeyError::NotRegular(path.to_owned()),
        _ => io(error),
    })?;
    let found = file.metadata().map_err(io)?;
    let (mode, owner) = (found.mode() & 0o7777, found.uid());
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(KeyError::WrongOwner { path: path.to_owned(), owner });
    }
    if mode & 0o077 != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    if found.len() == 0 || found.len() > MAX_LEN {
        return Err(KeyError::Damaged(path.to_owned()));
    }
    let mut bytes = Zeroizing::new(vec![0; found.len() as usize]);
    file.read_exact(&mut bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => KeyError::Damaged(path.to_owned()),
        _ => io(error),
    })?;
    let still_named = file.metadata().map_err(io)?.nlink() > 0;
    Ok((bytes, still_named))
}
