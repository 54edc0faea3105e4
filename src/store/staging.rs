//! A private directory in which files are made that are then given to another user than the daemon's.
//! In a directory that other users can write to, the name could lead to another file by the time of
//! chown(2).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::sys;

/// Its name in `.atrest/`.
const NAME: &str = "new";

/// A directory of mode 0700, opened when it is first needed, and the names that were made in it.
#[derive(Debug, Default)]
pub struct Staging {
    dir: OnceLock<OwnedFd>,
    opening: Mutex<()>,
    names: AtomicU64,
}

impl Staging {
    /// The directory, and a name that is free in it.
    ///
    /// # Errors
    /// EACCES where others than the daemon's user can reach it; those of mkdirat(2), openat(2) and
    /// unlinkat(2).
    pub fn free_name(&self, own: impl AsFd) -> io::Result<(BorrowedFd<'_>, String)> {
        let dir = match self.dir.get() {
            Some(dir) => dir,
            None => {
                // Leftovers are removed once: afterwards its names are in use.
                let _alone = self.opening.lock();
                if self.dir.get().is_none() {
                    let _ = self.dir.set(open(own)?);
                }
                self.dir.get().ok_or(Errno::IO)?
            }
        };
        Ok((dir.as_fd(), self.names.fetch_add(1, Ordering::Relaxed).to_string()))
    }
}

fn open(own: impl AsFd) -> io::Result<OwnedFd> {
    match rustix::fs::mkdirat(&own, NAME, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let dir = sys::open_directory_at(own, NAME, OFlags::RDONLY)?;
    let found = rustix::fs::fstat(&dir)?;
    let is_closed = found.st_mode & 0o7077 == 0;
    if !is_closed || found.st_uid != rustix::process::geteuid().as_raw() {
        return Err(Errno::ACCESS.into());
    }
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        // A crash may leave one: the next name would meet it.
        match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
            Err(Errno::ISDIR) => rustix::fs::unlinkat(&dir, name, AtFlags::REMOVEDIR)?,
            removed => removed?,
        }
    }
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_a_crash_left_is_removed() {
        let own = tempfile::tempdir().unwrap();
        fs::create_dir_all(own.path().join("new/0")).unwrap();
        fs::set_permissions(own.path().join("new"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(own.path().join("new/1"), "").unwrap();
        let (own_dir, staging) = (fs::File::open(own.path()).unwrap(), Staging::default());
        let names = [0, 1].map(|_| staging.free_name(&own_dir).unwrap().1);
        assert_eq!(names, ["0", "1"]);
        assert_eq!(fs::read_dir(own.path().join("new")).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_others_reach_is_refused() {
        let own = tempfile::tempdir().unwrap();
        fs::create_dir(own.path().join("new")).unwrap();
        fs::set_permissions(own.path().join("new"), fs::Permissions::from_mode(0o710)).unwrap();
        let own = fs::File::open(own.path()).unwrap();
        let refused = Staging::default().free_name(&own).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    }
}
