//! Limiting the files that a process can reach (landlock(7), linux/landlock.h).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::shown::Show;

const EXECUTE: u64 = 1;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_SOCK: u64 = 1 << 9;
/// All of version 2: from running programs to links and renames between directories.
const TREE: u64 = (1 << 14) - 1;
/// Since version 3.
const TRUNCATE: u64 = 1 << 14;
/// Since version 5.
const IOCTL_DEV: u64 = 1 << 15;
/// Since version 6: abstract Unix sockets and processes outside can't be reached.
const SCOPES: u64 = 3;

/// Without links and renames between directories, which the first version always refuses, there is no
/// vault.
const MIN_VERSION: u32 = 2;

/// The files that a process needs.
#[derive(Debug, Default)]
pub struct Reach {
    /// Directories in which it may do anything but execute programs.
    pub trees: Vec<PathBuf>,
    /// Directories in which it makes sockets and removes them.
    pub sockets: Vec<PathBuf>,
    /// Files and directories that it reads.
    pub reads: Vec<PathBuf>,
    /// Files, and directories of files, that it reads and writes.
    pub writes: Vec<PathBuf>,
    /// A directory below which it truncates files. It is opened without a request to its filesystem: it may
    /// be this process's own mount, which does not answer yet.
    pub truncates: Option<PathBuf>,
}

#[repr(C)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// The version of the kernel's interface; 0 where there is none.
pub fn version() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    let none = std::ptr::null::<RulesetAttr>();
    // SAFETY: with this flag the call reads no memory.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0, LANDLOCK_CREATE_RULESET_VERSION)
    };
    u32::try_from(version).unwrap_or(0)
}

/// Keeps this thread, and those that it starts, from all files but those of `reach`. Paths that don't exist
/// are left out, and so are those that this user can't open, which is logged. Returns the version of the
/// interface, 0 where the kernel has none that is sufficient.
///
/// # Errors
/// Those of landlock_create_ruleset(2), landlock_add_rule(2) and landlock_restrict_self(2).
pub(super) fn restrict(reach: &Reach) -> io::Result<u32> {
    let version = version();
    if version < MIN_VERSION {
        return Ok(0);
    }
    let since = |since: u32, bits: u64| if version >= since { bits } else { 0 };
    let handled = TREE | since(3, TRUNCATE) | since(5, IOCTL_DEV);
    let rules =
        RulesetAttr { handled_access_fs: handled, handled_access_net: 0, scoped: since(6, SCOPES) };
    // SAFETY: the kernel reads the structure, whose size is given; where it is longer than the kernel
    // knows, the rest is 0.
    let ruleset = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const rules, size_of_val(&rules), 0)
    };
    let ruleset = i32::try_from(ruleset).ok().filter(|fd| *fd >= 0);
    let Some(ruleset) = ruleset else { return Err(io::Error::last_os_error()) };
    // SAFETY: it was opened a moment ago, and belongs to nobody else.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    let Reach { trees, sockets, reads, writes, truncates } = reach;
    let write = READ_FILE | WRITE_FILE | READ_DIR | TRUNCATE | IOCTL_DEV;
    for (paths, access) in [
        (trees, (TREE | TRUNCATE) & !EXECUTE),
        (sockets, MAKE_SOCK | REMOVE_FILE),
        (reads, READ_FILE | READ_DIR),
        (writes, write),
    ] {
        paths.iter().try_for_each(|path| allow(&ruleset, path, access & handled))?;
    }
    if let Some(directory) = truncates
        && TRUNCATE & handled != 0
        && let Some(at) = open(directory)
    {
        add(&ruleset, &at, TRUNCATE)?;
    }
    // SAFETY: the call takes numbers alone.
    match unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) } {
        0 => Ok(version),
        _ => Err(io::Error::last_os_error()),
    }
}

fn open(path: &Path) -> Option<OwnedFd> {
    let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let warn = |errno: &Errno| {
        if *errno != Errno::NOENT {
            log::warn!("{} is out of the daemon's reach: {errno}", path.shown());
        }
    };
    opened.inspect_err(warn).ok()
}

fn allow(ruleset: &OwnedFd, path: &Path, access: u64) -> io::Result<()> {
    let Some(at) = open(path) else { return Ok(()) };
    let is_directory = rustix::fs::fstat(&at)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir());
    let of_files = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV;
    add(ruleset, &at, if is_directory { access } else { access & of_files })
}

fn add(ruleset: &OwnedFd, at: &OwnedFd, allowed_access: u64) -> io::Result<()> {
    const LANDLOCK_RULE_PATH_BENEATH: libc::c_int = 1;
    let rule = PathBeneathAttr { allowed_access, parent_fd: at.as_raw_fd() };
    // SAFETY: the kernel reads the structure, of the layout that this kind of rule has.
    let added = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            LANDLOCK_RULE_PATH_BENEATH,
            &raw const rule,
            0,
        )
    };
    if added == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::io::ErrorKind;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_thread_reaches_what_it_was_given_and_nothing_else() {
        if version() < MIN_VERSION {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        for name in ["tree", "tree/below", "sockets", "read", "outside"] {
            fs::create_dir(at(name)).unwrap();
        }
        for name in ["read/file", "write", "outside/file", "tree/moved"] {
            fs::write(at(name), b"content").unwrap();
        }
        let reach = Reach {
            trees: vec![at("tree"), at("not there")],
            sockets: vec![at("sockets")],
            reads: vec![at("read")],
            writes: vec![at("write")],
            truncates: Some(at("outside")),
        };
        let restricted = || {
            let refused = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
            };
            assert!(rustix::thread::set_no_new_privs(true).is_ok());
            assert!(restrict(&reach).unwrap() >= MIN_VERSION);
            fs::write(at("tree/new"), b"x").unwrap();
            fs::rename(at("tree/moved"), at("tree/below/moved")).unwrap();
            File::options().write(true).open(at("tree/new")).unwrap().set_len(0).unwrap();
            fs::read_dir(at("tree")).unwrap();
            fs::write(at("write"), b"y").unwrap();
            fs::read(at("read/file")).unwrap();
            drop(UnixListener::bind(at("sockets/socket")).unwrap());
            fs::remove_file(at("sockets/socket")).unwrap();
            refused(fs::write(at("read/file"), b"z"));
            refused(fs::write(at("sockets/file"), b"z"));
            let outside =
                std::ffi::CString::new(at("outside/file").as_os_str().as_bytes()).unwrap();
            nix::unistd::truncate(outside.as_c_str(), 1).unwrap();
            refused(fs::read(at("outside/file")).map(drop));
            refused(fs::write(at("outside/new"), b"z"));
            refused(fs::read_dir(scratch.path()).map(drop));
            assert!(fs::rename(at("tree/new"), at("outside/new")).is_err());
        };
        std::thread::scope(|scope| scope.spawn(restricted).join().unwrap());
        fs::read(at("outside/file")).unwrap();
    }
}
