//! Where a trail lies: a directory of files, each named by the number of its first line.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::TrailError;
use crate::format::VolumeId;
use crate::sys::{self, Links};

/// What the files' names end with.
const ENDING: &str = ".jsonl";
const LOCK: &str = "lock";
/// More bytes than a line has: the longest part of one is a path in the mount, escaped.
const LONGEST_LINE: u64 = 64 << 20;
/// How long another command may write, and how often to look whether it has ended.
const PATIENCE: u32 = 100;
const MOMENT: Duration = Duration::from_millis(20);

/// `atrest/<volume-id>` in [`sys::state_home`], or in `/var/log` for root without a home, as at boot.
///
/// # Errors
/// [`TrailError::NoHome`] for another user without one.
pub fn default_directory(vault: &VolumeId) -> Result<PathBuf, TrailError> {
    let at_boot = || rustix::process::geteuid().is_root().then(|| "/var/log".into());
    let state = sys::state_home().or_else(at_boot).ok_or(TrailError::NoHome)?;
    Ok(state.join("atrest").join(vault.to_string()))
}

/// The directory of a trail.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// For reading: it must be there.
    ///
    /// # Errors
    /// [`TrailError::Missing`].
    pub fn find(path: &Path) -> Result<Self, TrailError> {
        if path.is_dir() {
            Ok(Self(path.to_owned()))
        } else {
            Err(TrailError::Missing(path.to_owned()))
        }
    }

    /// For writing: made with mode 0700 where it is not there.
    ///
    /// # Errors
    /// [`TrailError::Exposed`] for one that others may write or list; [`TrailError::Io`].
    pub fn make(path: &Path) -> Result<Self, TrailError> {
        let io = |source| TrailError::io("make the trail's directory", path, source);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        let found = fs::metadata(path).map_err(io)?;
        let ours = found.uid() == rustix::process::geteuid().as_raw();
        if !ours || found.mode() & 0o077 != 0 {
            return Err(TrailError::Exposed(path.to_owned()));
        }
        Ok(Self(path.to_owned()))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The file whose first line is number `first`.
    pub fn file(&self, first: u64) -> PathBuf {
        self.0.join(format!("{first:020}{ENDING}"))
    }

    /// The numbers of the files' first lines, in ascending order. What is named like a file of a
    /// trail and can't be one is none.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn files(&self) -> Result<Vec<u64>, TrailError> {
        let io = |source| TrailError::io("list the trail's directory", &self.0, source);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.0).map_err(io)? {
            let entry = entry.map_err(io)?;
            // Opening a pipe would wait for whoever writes into it.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                files.extend(entry.file_name().to_str().and_then(first_line_of));
            }
        }
        files.sort_unstable();
        Ok(files)
    }

    /// The right to write, until it is dropped or the process ends.
    ///
    /// # Errors
    /// [`TrailError::InUse`] when somebody else has it for longer than a command takes;
    /// [`TrailError::Io`].
    pub fn lock(&self) -> Result<File, TrailError> {
        let path = self.0.join(LOCK);
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let opened = sys::open_regular(CWD, &path, flags, Links::Refuse);
        let file = opened.map_err(|source| TrailError::io("open", &path, source))?;
        for _ in 0..PATIENCE {
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(MOMENT),
                Err(errno) => return Err(TrailError::io("lock", &path, errno)),
            }
        }
        Err(TrailError::InUse(self.0.clone()))
    }

    /// Makes what was made or removed in it durable.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn sync(&self) -> Result<(), TrailError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let synced = rustix::fs::open(&self.0, flags, Mode::empty()).and_then(rustix::fs::fsync);
        synced.map_err(|source| TrailError::io("sync", &self.0, source))
    }

    /// Hands the whole lines of a file to `take`, without their ends, until it has enough; returns
    /// whether the file ends with a whole line, which one that was being written need not.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn read(
        &self,
        first: u64,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, TrailError> {
        let path = self.file(first);
        let io = |source: io::Error| TrailError::io("read", &path, source);
        let file = sys::open_regular(CWD, &path, OFlags::RDONLY, Links::Refuse).map_err(io)?;
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(io)? == 0 {
                return Ok(true);
            }
            let Some(whole) = line.strip_suffix(b"\n") else { return Ok(false) };
            if !take(whole) {
                return Ok(true);
            }
        }
    }
}

/// The number in a file's name. No trail gets so far that there is no next.
fn first_line_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(ENDING)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = is_number.then(|| digits.parse().ok()).flatten()?;
    (1..=u64::MAX / 2).contains(&number).then_some(number)
}
