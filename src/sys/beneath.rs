//! Opening an untrusted path within a directory (openat2(2), Linux 5.6).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Bytes of a path that the kernel takes at once (limits.h: PATH_MAX), its end included.
const PATH_MAX: usize = 4096;

/// Opens `path` below `root`: by no symbolic link, into no other filesystem, never out of it.
/// `flags` say how. A path that is longer than the kernel takes is followed in parts, of which none
/// leads upwards.
///
/// # Errors
/// ELOOP for a link, EXDEV for what leads elsewhere; EOPNOTSUPP where the kernel lacks openat2(2);
/// those of open(2).
pub fn open_beneath(root: impl AsFd, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let root = root.as_fd();
    if path.as_os_str().len() < PATH_MAX {
        return open_part(root, path, flags);
    }
    let mut passed: Option<OwnedFd> = None;
    let mut part = PathBuf::new();
    for name in path {
        if part.as_os_str().len() + name.len() + 1 >= PATH_MAX {
            let from = passed.as_ref().map_or(root, AsFd::as_fd);
            passed = Some(open_part(from, &part, OFlags::PATH | OFlags::DIRECTORY)?);
            part.clear();
        }
        part.push(name);
    }
    open_part(passed.as_ref().map_or(root, AsFd::as_fd), &part, flags)
}

fn open_part(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let opened = rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
    // ENOSYS has a meaning of its own to a FUSE client.
    opened.map_err(|errno| if errno == Errno::NOSYS { Errno::OPNOTSUPP } else { errno })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_leads_out() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir_all(scratch.path().join("root/a/b")).unwrap();
        symlink("b", scratch.path().join("root/a/link")).unwrap();
        symlink("/proc", scratch.path().join("root/away")).unwrap();
        let root = File::open(scratch.path().join("root")).unwrap();
        let open = |path: &str| open_beneath(&root, Path::new(path), OFlags::PATH).map(drop);
        for path in ["", ".", "a", "a/b", "a/../a/b"] {
            assert_eq!(open(path), Ok(()), "{path}");
        }
        for path in ["..", "a/../..", "/", "/etc", "a/../../root"] {
            assert_eq!(open(path), Err(Errno::XDEV), "{path}");
        }
        for path in ["a/link", "away", "away/self"] {
            assert_eq!(open(path), Err(Errno::LOOP), "{path}");
        }
        let proc = File::open("/").unwrap();
        assert_eq!(open_beneath(&proc, Path::new("proc"), OFlags::PATH).err(), Some(Errno::XDEV));
    }
}
