//! What work on all files has done so far, and could not do.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::io::Errno;
use serde::{Deserialize, Serialize, Serializer};

use crate::fs::{FsError, Inode};
use crate::store::VaultError;

/// How far work on the whole vault has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Files done.
    pub done: u64,
    /// Files there were when the work began.
    pub total: u64,
}

/// A file that something could not be done to, or that is damaged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFailure {
    /// Its path in the mount; U+FFFD replaces what is not UTF-8.
    #[serde(serialize_with = "lossy")]
    pub path: PathBuf,
    /// The error.
    pub reason: String,
}

impl FileFailure {
    /// With the error of a file at `path`, which the error need not name as well.
    pub fn new(path: PathBuf, error: &FsError) -> Self {
        let reason = match error {
            FsError::File { error, .. } => error.to_string(),
            error => error.to_string(),
        };
        Self { path, reason }
    }
}

fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Which pass of a walk visits a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The way through the vault.
    Initial,
    /// After a move; the file may have been visited before.
    Revisit,
}

/// Counts the files of a walk, and collects the failures. The threads of the walk share it.
pub struct Tally<'a> {
    done: AtomicU64,
    total: u64,
    stopped: AtomicBool,
    progress: &'a (dyn Fn(Progress) -> bool + Sync),
    counted: Mutex<HashSet<Inode>>,
    failures: Mutex<Vec<FileFailure>>,
}

impl<'a> Tally<'a> {
    /// For `total` files. `progress` returns whether to go on.
    pub fn new(total: u64, progress: &'a (dyn Fn(Progress) -> bool + Sync)) -> Self {
        Self {
            done: AtomicU64::new(0),
            total,
            stopped: AtomicBool::new(false),
            progress,
            counted: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// One more file is done, unless it was counted in the initial pass; returns whether to go on.
    pub fn advance(&self, pass: Pass) -> bool {
        let more = u64::from(pass == Pass::Initial);
        let done = self.done.fetch_add(more, Ordering::Relaxed) + more;
        let go_on = (self.progress)(Progress { done, total: self.total.max(done) });
        if !go_on {
            self.stopped.store(true, Ordering::Relaxed);
        }
        go_on
    }

    /// Counts an inode; returns whether it is the first time.
    pub fn count(&self, inode: Inode) -> bool {
        self.counted.lock().insert(inode)
    }

    /// The result of work on one file. A failure is collected, unless the file has gone, or has moved
    /// and is visited elsewhere.
    pub fn done<T>(&self, result: Result<T, FsError>, path: impl FnOnce() -> PathBuf) -> Option<T> {
        match result {
            Ok(done) => return Some(done),
            Err(FsError::Backing(Errno::NOENT) | FsError::Stale) => {}
            Err(error) => self.fail(&path(), &error),
        }
        None
    }

    /// Collects a failure.
    pub fn fail(&self, path: &Path, error: &FsError) {
        self.failures.lock().push(FileFailure::new(path.to_owned(), error));
    }

    /// Whether the walk went to its end.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` stopped it.
    pub fn require_end(&self) -> Result<(), VaultError> {
        if self.stopped.load(Ordering::Relaxed) { Err(VaultError::Stopped) } else { Ok(()) }
    }

    /// The failures by path, one for each.
    pub fn into_failures(self) -> Vec<FileFailure> {
        let mut failures = self.failures.into_inner();
        failures.sort_by(|a, b| a.path.cmp(&b.path));
        failures.dedup_by(|a, b| a.path == b.path);
        failures
    }
}
