//! Work on all files of the vault: bringing wrapped keys to the newest version, and checking
//! every block. Both run beside the mount's users, through the same open files.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::open_files::OpenFile;
use super::walk::{Visited, walk};
use super::{Fs, FsError};
use crate::store::{FileError, FileReport, Rewrapped, VaultError};

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
    /// Its path in the mount.
    pub path: PathBuf,
    /// What is the matter.
    pub reason: String,
}

/// What [`Fs::rewrap`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapSummary {
    /// Files whose header was written anew, the vault's own key among them.
    pub rewrapped: u64,
    /// Files that the newest version wraps already.
    pub already_new: u64,
    /// Files without content, which have no key.
    pub empty: u64,
    /// Files that could not be rewrapped.
    pub failed: Vec<Failure>,
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
    pub left_by_crash: Vec<PathBuf>,
}

impl Fs {
    /// Wraps every file's key with the newest version of its master key: one header write a
    /// file. `progress` says whether to go on. Stopped at any point, it has done no harm, and goes on when run again.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` said so; what the backing filesystem says of the
    /// vault's directory or description. What can't be
    /// done to single files is in the summary.
    pub fn rewrap(
        &self,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<RewrapSummary, VaultError> {
        let summary = Mutex::new(RewrapSummary::default());
        let count = self.counter(Path::new(""), progress)?;
        // A rename may carry a file from what is still to be walked to what was walked.
        loop {
            let renames = self.renames.load(Ordering::Acquire);
            let rewrapped = summary.lock().rewrapped;
            *summary.lock() = RewrapSummary { rewrapped, ..RewrapSummary::default() };
            self.rewrap_all(&summary, &count)?;
            count.finish()?;
            if self.renames.load(Ordering::Acquire) == renames {
                break;
            }
        }
        if self.vault.rewrap_vault_key()? {
            summary.lock().rewrapped += 1;
        }
        Ok(summary.into_inner())
    }

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
                let report = self.on_visited(visited, false, |file| Ok(file.verify()));
                summary.lock().add(visited.path, report);
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

    fn rewrap_all(
        &self,
        summary: &Mutex<RewrapSummary>,
        count: &Counter<'_>,
    ) -> Result<(), VaultError> {
        // Files that are open and have no name any more are reached by no walk.
        for (inode, result) in self.open.each(|file| file.rewrap()) {
            let path = self.places.path(&self.nodes, inode);
            summary
                .lock()
                .add(&path, result.map_err(|error| FsError::File { path: path.clone(), error }));
        }
        self.each_file(
            Path::new(""),
            &|visited| {
                let result = if visited.stat.st_size == 0 {
                    Ok(Rewrapped::Empty)
                } else {
                    self.on_visited(visited, true, |file| file.rewrap())
                };
                summary.lock().add(visited.path, result);
                count.one()
            },
            &|path, error| summary.lock().add(path, Err(error)),
        )
    }

    /// Walks the vault; what goes wrong with `start` itself is the error.
    fn each_file(
        &self,
        start: &Path,
        file: &(dyn Fn(&Visited<'_>) -> bool + Sync),
        failed: &(dyn Fn(&Path, FsError) + Sync),
    ) -> Result<(), VaultError> {
        use std::os::fd::AsFd;
        walk(self.vault.as_fd(), start, file, failed).map_err(|error| match error {
            FsError::Backing(errno) => VaultError::Io(errno.into()),
            other => VaultError::Io(std::io::Error::other(other.to_string())),
        })
    }

    fn counter<'a>(
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
    fn on_visited<T>(
        &self,
        visited: &Visited<'_>,
        for_writing: bool,
        work: impl FnOnce(&OpenFile) -> Result<T, FileError>,
    ) -> Result<T, FsError> {
        let inode = self.places.inode(visited.stat)?;
        let is_inode = |stat: &_| Ok(self.places.inode(stat)? == inode);
        let named = |error| FsError::File { path: visited.path.to_path_buf(), error };
        let file = self.open.acquire(inode, || Ok(visited.place.clone()), for_writing, is_inode)?;
        let result = work(&file).map_err(named);
        drop(file);
        let released = self.open.release(inode).map_err(named);
        result.and_then(|value| released.map(|()| value))
    }
}

/// Counts files and tells of it.
struct Counter<'a> {
    done: AtomicU64,
    total: u64,
    stopped: AtomicBool,
    progress: &'a (dyn Fn(Progress) -> bool + Sync),
}

impl Counter<'_> {
    /// One more; whether to go on.
    fn one(&self) -> bool {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        let go_on = (self.progress)(Progress { done, total: self.total.max(done) });
        if !go_on {
            self.stopped.store(true, Ordering::Relaxed);
        }
        go_on
    }

    /// # Errors
    /// [`VaultError::Stopped`] when it was told not to go on.
    fn finish(&self) -> Result<(), VaultError> {
        if self.stopped.load(Ordering::Relaxed) { Err(VaultError::Stopped) } else { Ok(()) }
    }
}

impl RewrapSummary {
    fn add(&mut self, path: &Path, result: Result<Rewrapped, FsError>) {
        match result {
            Ok(Rewrapped::Done) => self.rewrapped += 1,
            Ok(Rewrapped::AlreadyNew) => self.already_new += 1,
            Ok(Rewrapped::Empty) => self.empty += 1,
            // Gone, or moved and so come by elsewhere.
            Err(FsError::Backing(rustix::io::Errno::NOENT) | FsError::Stale) => {}
            Err(error) => self.failed.push(failure(path, &error)),
        }
    }
}

impl VerifySummary {
    fn add(&mut self, path: &Path, report: Result<FileReport, FsError>) {
        self.files += 1;
        match report {
            Ok(report) => {
                self.blocks += report.extent.blocks;
                self.bytes += report.extent.bytes;
                if report.left_by_crash {
                    self.left_by_crash.push(path.to_path_buf());
                }
                let damage = report
                    .damage
                    .iter()
                    .map(|error| Failure { path: path.to_path_buf(), reason: error.to_string() });
                self.damaged.extend(damage);
            }
            Err(FsError::Backing(rustix::io::Errno::NOENT) | FsError::Stale) => {}
            Err(error) => self.damaged.push(failure(path, &error)),
        }
    }
}

fn failure(path: &Path, error: &FsError) -> Failure {
    let reason = match error {
        FsError::File { error, .. } => error.to_string(),
        error => error.to_string(),
    };
    Failure { path: path.to_path_buf(), reason }
}
