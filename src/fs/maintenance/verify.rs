//! Work on all files of the vault, and the first of it: checking every block. It runs beside the
//! mount's users, through the same open files.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::Stat;
use rustix::io::Errno;
use serde::{Deserialize, Serialize, Serializer};

use super::walk::{Visited, walk};
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError};
use crate::store::{Access, FileReport, VaultError};

/// How far work on the whole vault has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files done.
    pub done: u64,
    /// Files there were when the work began.
    pub total: u64,
}

/// A file that something could not be done to, or is wrong with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its path in the mount; one that is not UTF-8 is told with U+FFFD in place of the rest.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// What is the matter.
    pub reason: String,
}

/// What [`Fs::verify`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifySummary {
    /// Files checked.
    pub files: u64,
    /// Blocks checked.
    pub blocks: u64,
    /// Plaintext bytes checked.
    pub bytes: u64,
    /// What is not as it was sealed.
    pub damaged: Vec<Failure>,
    /// Files whose last mount crashed: readable, but nothing vouches for their length.
    #[serde(serialize_with = "lossy_all")]
    pub left_by_crash: Vec<PathBuf>,
    /// Blocks with content that their files' headers list among those that may be holes: zeroing
    /// them would go unnoticed.
    pub unguarded_blocks: u64,
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn lossy_all<S: Serializer>(paths: &[PathBuf], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(paths.iter().map(|path| path.to_string_lossy()))
}

impl Fs {
    /// Opens every block of every file at or below `start`, a path in the mount. `progress` says
    /// whether to go on.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` said so; what the backing filesystem says of
    /// `start`. What is wrong with files is in the summary.
    pub fn verify(
        &self,
        start: &Path,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<VerifySummary, VaultError> {
        let summary = Mutex::new(VerifySummary::default());
        let count = self.counter(start, progress)?;
        self.each_file(
            start,
            &|visited| {
                let report =
                    self.on_visited(visited, Access::ReadOnly, |file, _| Ok(file.verify()));
                summary.lock().add(&|| visited.path(), report);
                count.one()
            },
            &|path, error| {
                let failure = Failure { path: path.to_path_buf(), reason: error.to_string() };
                summary.lock().damaged.push(failure);
            },
        )?;
        count.finish()?;
        let mut summary = summary.into_inner();
        summary.damaged.sort_by(|a, b| a.path.cmp(&b.path));
        summary.left_by_crash.sort();
        Ok(summary)
    }

    /// Walks the vault, and then again whatever was moved meanwhile, until nothing was: no file
    /// that is there all the time is missed, and one that is moved may be come by twice.
    pub(in crate::fs) fn each_file_even_moved(
        &self,
        file: &(dyn Fn(&Visited<'_>, Look) -> bool + Sync),
        failed: &(dyn Fn(&Path, FsError) + Sync),
    ) -> Result<(), VaultError> {
        let moves = self.moves.watch();
        let stopped = AtomicBool::new(false);
        let go_on = |go_on: bool| {
            stopped.fetch_or(!go_on, Ordering::Relaxed);
            go_on
        };
        self.each_file(Path::new(""), &|visited| go_on(file(visited, Look::First)), failed)?;
        while !stopped.load(Ordering::Relaxed) {
            let moved = moves.take();
            if moved.is_empty() {
                break;
            }
            for path in moved {
                let again = |visited: &Visited<'_>| go_on(file(visited, Look::Again));
                match walk(self.vault.as_fd(), &path, &again, failed) {
                    Ok(()) | Err(FsError::Backing(Errno::NOENT | Errno::NOTDIR)) => {}
                    Err(error) => failed(&path, error),
                }
            }
        }
        Ok(())
    }

    /// Walks the vault; what goes wrong with `start` itself is the error.
    pub(in crate::fs) fn each_file(
        &self,
        start: &Path,
        file: &(dyn Fn(&Visited<'_>) -> bool + Sync),
        failed: &(dyn Fn(&Path, FsError) + Sync),
    ) -> Result<(), VaultError> {
        walk(self.vault.as_fd(), start, file, failed).map_err(|error| match error {
            FsError::Backing(errno) => VaultError::Io(errno.into()),
            other => VaultError::Io(std::io::Error::other(other.to_string())),
        })
    }

    pub(in crate::fs) fn counter<'a>(
        &self,
        start: &Path,
        progress: &'a (dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Counter<'a>, VaultError> {
        let total = AtomicU64::new(0);
        self.each_file(
            start,
            &|_| {
                total.fetch_add(1, Ordering::Relaxed);
                true
            },
            &|_, _| {},
        )?;
        Ok(Counter {
            done: AtomicU64::new(0),
            total: total.into_inner(),
            stopped: AtomicBool::new(false),
            progress,
        })
    }

    /// Runs `work` on the one shared open file of what the walk came by.
    pub(in crate::fs) fn on_visited<T>(
        &self,
        visited: &Visited<'_>,
        access: Access,
        work: impl FnOnce(&OpenFile, &Stat) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let (fd, writable, stat) = self.open.open_found(&visited.place(), access)?;
        let inode = self.places.inode(&stat)?;
        let file = self.open.acquire_found(inode, fd, writable)?;
        let result = work(&file, &stat);
        drop(file);
        let released = self.open.release(inode);
        let released = released.map_err(|error| FsError::File { path: visited.path(), error });
        result.and_then(|value| released.map(|()| value))
    }
}

/// Which time a walk comes by a file, as far as it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// On its way through the vault.
    First,
    /// After a move; it may have been seen before.
    Again,
}

/// Counts files and tells of it.
pub struct Counter<'a> {
    done: AtomicU64,
    total: u64,
    stopped: AtomicBool,
    progress: &'a (dyn Fn(Progress) -> bool + Sync),
}

impl Counter<'_> {
    /// One more; whether to go on.
    pub(in crate::fs) fn one(&self) -> bool {
        self.tell(self.done.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// One more, unless it was counted before; whether to go on.
    pub(in crate::fs) fn look(&self, look: Look) -> bool {
        match look {
            Look::First => self.one(),
            Look::Again => self.tell(self.done.load(Ordering::Relaxed)),
        }
    }

    fn tell(&self, done: u64) -> bool {
        let go_on = (self.progress)(Progress { done, total: self.total.max(done) });
        if !go_on {
            self.stopped.store(true, Ordering::Relaxed);
        }
        go_on
    }

    /// # Errors
    /// [`VaultError::Stopped`] when it was told not to go on.
    pub(in crate::fs) fn finish(&self) -> Result<(), VaultError> {
        if self.stopped.load(Ordering::Relaxed) { Err(VaultError::Stopped) } else { Ok(()) }
    }
}

impl VerifySummary {
    fn add(&mut self, path: &dyn Fn() -> PathBuf, report: Result<FileReport, FsError>) {
        self.files += 1;
        match report {
            Ok(report) => {
                self.blocks += report.extent.blocks;
                self.bytes += report.extent.bytes;
                self.unguarded_blocks += report.unguarded_blocks;
                if report.left_by_crash {
                    self.left_by_crash.push(path());
                }
                let damage = report
                    .damage
                    .iter()
                    .map(|error| Failure { path: path(), reason: error.to_string() });
                self.damaged.extend(damage);
            }
            Err(FsError::Backing(Errno::NOENT) | FsError::Stale) => {}
            Err(error) => self.damaged.push(failure(&path(), &error)),
        }
    }
}

pub fn failure(path: &Path, error: &FsError) -> Failure {
    let reason = match error {
        FsError::File { error, .. } => error.to_string(),
        error => error.to_string(),
    };
    Failure { path: path.to_path_buf(), reason }
}
