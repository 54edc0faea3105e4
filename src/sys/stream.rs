//! Opening an input that is read once: a file, a pipe, or the terminal.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fcntl_setfl, fstat, fstatfs};

/// statfs(2), `f_type` of a pipe without a name (linux/magic.h).
const PIPEFS_MAGIC: i64 = 0x5049_5045;

/// Opens `path` to be read from its beginning to its end: a regular file, a pipe of the shell
/// (`/dev/fd/N`), or a terminal. A FIFO with a name is refused: the wait
/// for its writer has no bound.
///
/// # Errors
/// `InvalidInput` for anything else; those of open(2).
pub fn open_input(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let fits = match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => true,
        FileType::Fifo => fstatfs(&file)?.f_type == PIPEFS_MAGIC,
        FileType::CharacterDevice => file.is_terminal(),
        _ => false,
    };
    if !fits {
        let sentence = "it is neither a regular file nor a pipe of the shell (/dev/fd/N)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    // Opened anew through /dev/fd, so that the flags of no other process's descriptor change.
    fcntl_setfl(&file, OFlags::empty())?;
    Ok(file)
}
