//! Exclusive locks on open files (flock(2)): held until the last copy of the descriptor is closed.

use std::io;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};

/// How often [`try_lock_for`] tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// How long [`lock`] waits. Locks are held for milliseconds, and for the seconds of a passphrase.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Waits for the lock, for half a minute at most: any process that can open the file can hold it.
///
/// # Errors
/// [`io::ErrorKind::TimedOut`] where another process keeps it; those of [`try_lock`].
pub fn lock(file: impl AsFd) -> io::Result<()> {
    lock_within(file, TIMEOUT)
}

fn lock_within(file: impl AsFd, timeout: Duration) -> io::Result<()> {
    if try_lock_for(file, timeout)? {
        return Ok(());
    }
    let held = format!("another process has held the lock for {} seconds", timeout.as_secs());
    Err(io::Error::new(io::ErrorKind::TimedOut, held))
}

/// Takes the lock; `false` where another open file has it.
///
/// # Errors
/// ENOLCK, and EOPNOTSUPP or EINVAL of filesystems without such locks.
pub fn try_lock(file: impl AsFd) -> Result<bool> {
    let take = || flock(&file, FlockOperation::NonBlockingLockExclusive);
    match rustix::io::retry_on_intr(take) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Waits for the lock; `false` where another open file has it for as long as `timeout`.
///
/// # Errors
/// Those of [`try_lock`].
pub fn try_lock_for(file: impl AsFd, timeout: Duration) -> Result<bool> {
    let begun = Instant::now();
    loop {
        let taken = try_lock(&file)?;
        if taken || begun.elapsed() >= timeout {
            return Ok(taken);
        }
        thread::sleep(RETRY_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_lock_is_held_by_one_open_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = File::open(file.path()).unwrap();
        lock(&file).unwrap();
        assert_eq!(try_lock(&other), Ok(false));
        assert_eq!(try_lock_for(&other, RETRY_INTERVAL), Ok(false));
        let held = lock_within(&other, RETRY_INTERVAL).unwrap_err();
        assert_eq!(held.kind(), io::ErrorKind::TimedOut);
        drop(file);
        assert_eq!(try_lock(&other), Ok(true));
    }
}
