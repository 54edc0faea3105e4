//! The budget of descriptors. Opens of programs are refused before the process has none left, and
//! descriptors that only save time are closed, so that listings, commits, the trail, the control
//! socket and work on all files continue.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::OnceLock;

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

/// Descriptors that programs do not get.
const RESERVE: u64 = 64;

/// Whether one that was just opened is outside the reserve. open(2) gives the lowest number that is
/// free, so all below it are in use, and no count has to be kept.
pub fn is_outside_reserve(fd: impl AsFd) -> bool {
    /// The first number of the reserve. The limit is the process's, and stays.
    static FIRST: OnceLock<RawFd> = OnceLock::new();
    fd.as_fd().as_raw_fd() < *FIRST.get_or_init(first_reserved)
}

/// Passes on a descriptor that a program will use.
///
/// # Errors
/// ENFILE where it is of the reserve: the caller's own limit, EMFILE, is another one.
pub fn for_program<F: AsFd>(fd: F) -> Result<F, Errno> {
    if is_outside_reserve(&fd) { Ok(fd) } else { Err(Errno::NFILE) }
}

/// Whether an error means that no descriptor is left.
pub fn is_exhausted(errno: Errno) -> bool {
    matches!(errno, Errno::NFILE | Errno::MFILE)
}

fn first_reserved() -> RawFd {
    match getrlimit(Resource::Nofile).current {
        // A quarter of a small budget.
        Some(limit) => (limit - RESERVE.min(limit / 4)).try_into().unwrap_or(RawFd::MAX),
        None => RawFd::MAX,
    }
}
