//! Opening files that have to be regular (open(2), fstat(2)), in directories to which other
//! users may write: a FIFO, a device or a symbolic link in their place is an error, and never blocks.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::path::Arg;

/// Whether a symbolic link may lead to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// For a path that the user gives.
    Follow,
    /// For a file of the program's own.
    Refuse,
}

/// The error for what is not a regular file; its kind is `InvalidData`.
#[derive(Debug)]
pub struct NotRegular;

impl NotRegular {
    /// Whether `error` is this one.
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

impl fmt::Display for NotRegular {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is not a regular file")
    }
}

impl std::error::Error for NotRegular {}

impl From<NotRegular> for io::Error {
    fn from(error: NotRegular) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// Opens the regular file `path` below `dir`; `flags` say how. One that is created has mode 0600.
///
/// # Errors
/// [`NotRegular`]; those of open(2).
pub fn open_regular(
    dir: impl AsFd,
    path: impl Arg,
    flags: OFlags,
    links: Links,
) -> io::Result<File> {
    // Without waiting for the other end of a FIFO, and without a terminal for the process.
    let mut flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    flags.set(OFlags::NOFOLLOW, links == Links::Refuse);
    let opened = rustix::fs::openat(dir, path, flags, Mode::RUSR | Mode::WUSR);
    let file = opened.map_err(|errno| match errno {
        // A symbolic link; a directory; a FIFO that nobody reads, a socket or a device of no driver.
        Errno::LOOP if links == Links::Refuse => NotRegular.into(),
        Errno::ISDIR | Errno::NXIO | Errno::NODEV => NotRegular.into(),
        errno => io::Error::from(errno),
    })?;
    let found = rustix::fs::fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(NotRegular.into());
    }
    Ok(file.into())
}

/// Whether a file has no more than one name. Another one may be that of somebody else's file, whose
/// content is then not this program's to change.
///
/// # Errors
/// What fstat(2) says.
pub fn has_one_name(file: impl AsFd) -> io::Result<bool> {
    Ok(rustix::fs::fstat(file)?.st_nlink <= 1)
}

/// All of the regular file `path` below `dir`, which has `longest` bytes at most.
///
/// # Errors
/// Those of [`open_regular`]; `InvalidData` for a longer one.
pub fn read_regular(
    dir: impl AsFd,
    path: impl Arg,
    links: Links,
    longest: u64,
) -> io::Result<Vec<u8>> {
    let file = open_regular(dir, path, OFlags::RDONLY, links)?;
    if file.metadata()?.len() > longest {
        return Err(too_long());
    }
    // It may grow meanwhile.
    let mut bytes = Vec::new();
    file.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest { Err(too_long()) } else { Ok(bytes) }
}

/// Creates the file `name` in `dir` for writing, with mode 0600, in the place of what an
/// interrupted call or another user has left there.
///
/// # Errors
/// Those of open(2) and unlink(2).
pub fn create_temporary(dir: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    match open_regular(&dir, name, flags, Links::Refuse) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            rustix::fs::unlinkat(&dir, name, AtFlags::empty())?;
            open_regular(&dir, name, flags, Links::Refuse)
        }
        created => created,
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is too long")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use rustix::fs::CWD;

    use super::*;

    #[test]
    fn what_is_not_regular_is_refused_without_a_wait() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        rustix::fs::mknodat(CWD, at("fifo"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("file"), "content").unwrap();
        symlink("file", at("link")).unwrap();
        for name in ["fifo", "socket", "directory", "link", "/dev/null"] {
            for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR | OFlags::CREATE] {
                let refused = open_regular(CWD, at(name), flags, Links::Refuse).unwrap_err();
                assert!(NotRegular::is(&refused), "{name} {flags:?}: {refused}");
            }
        }
        assert_eq!(read_regular(CWD, at("link"), Links::Follow, 7).unwrap(), b"content");
        read_regular(CWD, at("link"), Links::Follow, 6).unwrap_err();
        assert_eq!(fs::read(at("file")).unwrap(), b"content");
    }

    #[test]
    fn a_temporary_file_takes_the_place_of_what_is_there() {
        let scratch = tempfile::tempdir().unwrap();
        let dir = File::open(scratch.path()).unwrap();
        fs::write(scratch.path().join("other"), "kept").unwrap();
        symlink("other", scratch.path().join("new")).unwrap();
        create_temporary(&dir, "new").unwrap();
        assert!(fs::symlink_metadata(scratch.path().join("new")).unwrap().is_file());
        assert_eq!(fs::read(scratch.path().join("other")).unwrap(), b"kept");
    }
}
