//! Near the end of the backing filesystem's space the kernel may keep less of what programs write:
//! one that never syncs learns of a full disk by a later write, and only when something could not be
//! written back.

use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::fs::Fs;
use crate::sys::{self, Device};

/// With more space than this the kernel keeps what it will.
const AMPLE: u64 = 4 << 30;
/// The part of the space that is left which may wait in the kernel's cache.
const PART: u64 = 4;
/// Bytes that may always wait there.
const LEAST: u64 = 16 << 20;
/// The space is looked at again before it could be used up at so many bytes a second.
const RATE: u64 = 4 << 30;
/// How long to wait at least and at most until then.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Watches the space until the file system goes; without privilege the kernel's own limit, which is
/// low, stays. The first look is done when this returns.
///
/// # Errors
/// When the thread can't be started.
pub fn watch(fs: &Arc<Fs>, device: Device) -> std::io::Result<()> {
    let (mut limit, pause) = look(fs, device, None);
    let fs = Arc::downgrade(fs);
    let run = move || {
        let mut pause = pause;
        loop {
            thread::sleep(pause);
            let Some(fs) = Weak::upgrade(&fs) else { return };
            (limit, pause) = look(&fs, device, limit);
        }
    };
    thread::Builder::new().name("space".to_owned()).spawn(run).map(|_| ())
}

/// Sets the limit that the space calls for; returns it, and how long to wait.
fn look(fs: &Fs, device: Device, before: Option<u64>) -> (Option<u64>, Duration) {
    let Some(free) = fs.look_at_space() else { return (before, PAUSE.1) };
    let limit = limit(free);
    if limit != before {
        for refused in sys::set_dirty_limit(device, limit) {
            log::debug!("the limit on dirty pages: {}: {}", refused.setting, refused.error);
        }
    }
    (limit, pause(free))
}

/// How much may wait in the kernel's cache, in steps of two.
fn limit(free: u64) -> Option<u64> {
    let part = (free / PART).max(LEAST);
    (free < AMPLE).then(|| (part / 2 + 1).next_power_of_two())
}

fn pause(free: u64) -> Duration {
    Duration::from_secs(free / RATE).clamp(PAUSE.0, PAUSE.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_may_wait_the_less_space_is_left() {
        assert_eq!(limit(AMPLE), None);
        assert_eq!(limit(AMPLE - 1), Some(1 << 29));
        assert_eq!(limit(0), Some(LEAST));
        for free in [1 << 20, 100 << 20, 1 << 30, 3 << 30] {
            let limit = limit(free).unwrap();
            assert!(limit >= LEAST && limit <= (free / PART).max(LEAST), "{free}: {limit}");
        }
        assert_eq!(pause(0), PAUSE.0);
        assert_eq!(pause(u64::MAX), PAUSE.1);
        assert_eq!(pause(40 << 30), Duration::from_secs(10));
    }
}
