//! Times of access (atime), by the rule of the mount.
//!
//! The daemon's own reads, of headers and of blocks that are written in part, move none: it opens
//! with O_NOATIME where it may. For a program's read the backing filesystem is let move it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{OFlags, Stat};

use crate::store::RealFile;

/// When a read moves the time of access, by the options of mount(8) of these names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AccessTimes {
    /// `relatime`: where it is not later than the last change, or a day old.
    #[default]
    Relative,
    /// `strictatime`: always.
    Strict,
    /// `noatime`.
    Never,
}

/// Whether a read through a descriptor moves the time of access (open(2), O_NOATIME).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtimeUpdates {
    /// It does, by the backing filesystem's own rule.
    On,
    /// It does not.
    Off,
}

/// After that `relatime` moves it in any case.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl AccessTimes {
    /// Whether a read of the file that looks as `stat` moves it.
    pub fn is_due(self, stat: &Stat) -> bool {
        let atime = (stat.st_atime, stat.st_atime_nsec);
        let is_old = || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            now.saturating_sub(DAY).as_secs() as i64 >= stat.st_atime
        };
        match self {
            Self::Never => false,
            Self::Strict => true,
            Self::Relative => {
                atime <= (stat.st_mtime, stat.st_mtime_nsec)
                    || atime <= (stat.st_ctime, stat.st_ctime_nsec)
                    || is_old()
            }
        }
    }
}

/// Says whether what is read through this descriptor moves the time of access, by the backing
/// filesystem's own rule: to set that time by utimensat(2) would change ctime.
///
/// # Errors
/// That of fcntl(2): EPERM where only the owner may set O_NOATIME.
pub fn let_reads_move(file: &RealFile, moves: bool) -> rustix::io::Result<()> {
    // The other flags that this call can change are never set.
    let quiet = if moves { OFlags::empty() } else { OFlags::NOATIME };
    rustix::fs::fcntl_setfl(file, OFlags::NONBLOCK | quiet)
}
