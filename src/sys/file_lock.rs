//! Exclusive locks on open files (flock(2)): held until the last copy of the descriptor is closed.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, Result};

/// How often [`try_lock_for`] tries.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// Waits for the lock.
///
/// # Errors
/// ENOLCK, and EOPNOTSUPP or EINVAL of filesystems without such locks.
pub fn lock(file: impl AsFd) -> Result<()> {
    take(&file, FlockOperation::LockExclusive)
}

/// Takes the lock; `false` where another open file has it.
///
/// # Errors
/// Those of [`lock`].
pub fn try_lock(file: impl AsFd) -> Result<bool> {
    match take(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Waits for the lock; `false` where another open file has it for as long as `timeout`.
///
/// # Errors
/// Those of [`lock`].
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

fn take(file: &impl AsFd, operation: FlockOperation) -> Result<()> {
    rustix::io::retry_on_intr(|| flock(file, operation))
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
        drop(file);
        assert_eq!(try_lock(&other), Ok(true));
    }
}
