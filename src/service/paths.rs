//! Paths as the command line names them, resolved; and the kernel's table of mounts.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::service::failure::{Context, Exit, Failure};
use crate::sys::MountTable;

/// The kernel's table of mounts.
///
/// # Errors
/// Those of reading it.
pub fn mount_table() -> Result<MountTable, Failure> {
    MountTable::read().context(Exit::Failed, || "/proc/self/mountinfo".to_owned())
}

/// A path made absolute and free of symlinks. The last component isn't asked about itself unless
/// it is a symlink, so that a stale mount point resolves.
///
/// # Errors
/// Those of realpath(3).
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.raw_os_error() == Some(libc::ENOTCONN) => {
            let path = std::path::absolute(path)?;
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize()?.join(name)),
                _ => Err(error),
            }
        }
        resolved => resolved,
    }
}

/// Where a path leads, absolute and without symlinks, in as much of it as there is: what is missing
/// is taken for a plain name, also where a symlink leads there.
pub fn would_be(path: &Path) -> PathBuf {
    /// What the kernel allows (path_resolution(7)).
    const MOST_LINKS: usize = 40;
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let names = |path: &Path| -> Vec<OsString> {
        path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
    };
    let mut left = names(&absolute);
    let mut real = PathBuf::from("/");
    let mut links = 0;
    while let Some(name) = left.pop() {
        match name.as_bytes() {
            b"/" => real = "/".into(),
            b"." => {}
            b".." => drop(real.pop()),
            _ => {
                let at = real.join(&name);
                match at.read_link() {
                    Ok(leads_to) if links < MOST_LINKS => {
                        links += 1;
                        left.extend(names(&leads_to));
                    }
                    _ => real = at,
                }
            }
        }
    }
    real
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_symlink_does_not_hide_where_a_path_leads() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("vault")).unwrap();
        symlink("vault", root.join("link")).unwrap();
        symlink("link/not/yet", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        assert_eq!(would_be(&root.join("link/deep/key")), root.join("vault/deep/key"));
        assert_eq!(would_be(&root.join("dangling/x/../y")), root.join("vault/not/yet/y"));
        assert_eq!(would_be(&root.join("link")), root.join("vault"));
        assert_eq!(would_be(&root.join("loop/x")), root.join("loop/x"));
    }
}
