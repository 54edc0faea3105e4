//! The directory of a trail: files named by the number of their first line, and a lock.

use std::fs::{DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::TrailError;
use crate::format::VaultId;
use crate::sys::{self, Links};

/// The end of the files' names.
const EXTENSION: &str = ".jsonl";
const LOCK: &str = "lock";
/// The longest line in bytes. The longest part of one is an escaped path.
const MAX_LINE_LEN: u64 = 64 << 20;
/// How long the lock is tried: longer than a command holds it.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// `<vault_id-id>` in [`sys::state_directory`], which is in `/var/log` at boot.
///
/// # Errors
/// [`TrailError::NoHome`] for another user without one.
pub fn default_directory(vault: &VaultId) -> Result<PathBuf, TrailError> {
    let state = sys::state_directory("/var/log").ok_or(TrailError::NoHome)?;
    Ok(state.join(vault.to_string()))
}

/// The directory of a trail. All calls use its descriptor, so that a changed path leads to no other.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    path: PathBuf,
    opened: Arc<OwnedFd>,
}

impl Directory {
    /// An existing directory, to read.
    ///
    /// # Errors
    /// [`TrailError::Missing`]; [`TrailError::Io`].
    pub fn find(path: &Path) -> Result<Self, TrailError> {
        match Self::open(path, OFlags::empty()) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(TrailError::Missing(path.to_owned())),
            Err(errno) => Err(TrailError::io("open the trail's directory", path, errno)),
        }
    }

    /// A directory to write to, created with mode 0700 where it is missing. Symbolic links are refused.
    ///
    /// # Errors
    /// [`TrailError::Exposed`] for one that others may write or list; [`TrailError::Io`].
    pub fn make(path: &Path) -> Result<Self, TrailError> {
        let io = |source: io::Error| TrailError::io("make the trail's directory", path, source);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
        Self::open_own(path)
    }

    /// Opens the path again, which leads to another directory after this one was moved or removed.
    ///
    /// # Errors
    /// Those of [`Directory::make`]; [`TrailError::Io`] with ENOENT where there is none.
    pub fn reopen(&self) -> Result<Self, TrailError> {
        Self::open_own(&self.path)
    }

    fn open_own(path: &Path) -> Result<Self, TrailError> {
        let io = |errno| TrailError::io("open the trail's directory", path, errno);
        let found = match Self::open(path, OFlags::NOFOLLOW) {
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(TrailError::Link(path.to_owned())),
            opened => opened.map_err(io)?,
        };
        let stat = rustix::fs::fstat(&found.opened).map_err(io)?;
        let ours = stat.st_uid == rustix::process::geteuid().as_raw();
        if !ours || stat.st_mode & 0o077 != 0 {
            return Err(TrailError::Exposed(path.to_owned()));
        }
        Ok(found)
    }

    fn open(path: &Path, flags: OFlags) -> rustix::io::Result<Self> {
        let flags = flags | OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = Arc::new(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Self { path: path.to_owned(), opened })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the file whose first line is number `first`.
    pub fn file(&self, first: u64) -> PathBuf {
        self.path.join(name_of(first))
    }

    /// The numbers of the files' first lines, in ascending order. Entries other than regular files are
    /// ignored, whatever their names.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn files(&self) -> Result<Vec<u64>, TrailError> {
        let io = |errno| TrailError::io("list the trail's directory", &self.path, errno);
        let mut files = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.opened).map_err(io)? {
            let entry = entry.map_err(io)?;
            let Some(first) = entry.file_name().to_str().ok().and_then(first_line_of) else {
                continue;
            };
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(first),
                kind => Some(kind),
            };
            // Opening a FIFO would block.
            files.extend(kind.filter(|kind| kind.is_file()).map(|_| first));
        }
        files.sort_unstable();
        Ok(files)
    }

    fn stat(&self, first: u64) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.opened, name_of(first), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn kind(&self, first: u64) -> Option<FileType> {
        Some(FileType::from_raw_mode(self.stat(first).ok()?.st_mode))
    }

    /// The length of a file in bytes; 0 where there is none.
    pub fn len_of(&self, first: u64) -> u64 {
        self.stat(first).map_or(0, |found| found.st_size.max(0) as u64)
    }

    /// Creates a file, which must not exist.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn create(&self, first: u64) -> Result<File, TrailError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        self.open_file(first, flags)
            .map_err(|source| TrailError::io("make", &self.file(first), source))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// Those of [`sys::open_regular`].
    pub fn open_file(&self, first: u64, flags: OFlags) -> io::Result<File> {
        sys::open_regular(&self.opened, name_of(first), flags, Links::Refuse)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn remove(&self, first: u64) -> Result<(), TrailError> {
        rustix::fs::unlinkat(&self.opened, name_of(first), AtFlags::empty())
            .map_err(|errno| TrailError::io("remove", &self.file(first), errno))
    }

    /// Takes the lock for writing, which is released when the file is dropped or the process ends.
    ///
    /// # Errors
    /// [`TrailError::InUse`] when another process holds it for longer than a command takes;
    /// [`TrailError::Io`].
    pub fn lock(&self) -> Result<File, TrailError> {
        let path = self.path.join(LOCK);
        let flags = OFlags::WRONLY | OFlags::CREATE;
        let opened = sys::open_regular(&self.opened, LOCK, flags, Links::Refuse);
        let file = opened.map_err(|source| TrailError::io("open", &path, source))?;
        match sys::try_lock_for(&file, LOCK_TIMEOUT) {
            Ok(true) => Ok(file),
            Ok(false) => Err(TrailError::InUse(self.path.clone())),
            Err(errno) => Err(TrailError::io("lock", &path, errno)),
        }
    }

    /// Makes created and removed entries durable (fsync(2)).
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn sync(&self) -> Result<(), TrailError> {
        rustix::fs::fsync(&self.opened).map_err(|source| TrailError::io("sync", &self.path, source))
    }

    /// Passes the whole lines of a file to `take`, without newlines, until it returns false. Returns
    /// false where the file ends in the middle of a line.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn read(
        &self,
        first: u64,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<bool, TrailError> {
        let io = |source: io::Error| TrailError::io("read", &self.file(first), source);
        let file = self.open_file(first, OFlags::RDONLY).map_err(io)?;
        let mut lines = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        loop {
            line.clear();
            if (&mut lines).take(MAX_LINE_LEN).read_until(b'\n', &mut line).map_err(io)? == 0 {
                return Ok(true);
            }
            let Some(whole) = line.strip_suffix(b"\n") else { return Ok(false) };
            if !take(whole) {
                return Ok(true);
            }
        }
    }
}

/// The name of the file whose first line is number `first`.
fn name_of(first: u64) -> String {
    format!("{first:020}{EXTENSION}")
}

/// The number in a file's name. Numbers above half of the range are never reached.
fn first_line_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(EXTENSION)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number = is_number.then(|| digits.parse().ok()).flatten()?;
    (1..=u64::MAX / 2).contains(&number).then_some(number)
}
