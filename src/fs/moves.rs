//! What moves while somebody walks the vault.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

type Paths = Arc<Mutex<HashSet<PathBuf>>>;

/// Where files and directories moved to, for the walks under way: a move may carry a file from
/// what is still to be walked to what was walked.
#[derive(Debug, Default)]
pub struct Moves {
    watching: Mutex<Vec<Paths>>,
}

/// Somebody who wants to know of moves, until this is dropped.
#[derive(Debug)]
pub struct Watch<'a> {
    moves: &'a Moves,
    paths: Paths,
}

impl Moves {
    /// From now on the moves are kept for the caller.
    pub fn watch(&self) -> Watch<'_> {
        let paths = Paths::default();
        self.watching.lock().push(Arc::clone(&paths));
        Watch { moves: self, paths }
    }

    /// Notes that something has moved to the stored path that `to` gives.
    pub fn note(&self, to: impl FnOnce() -> PathBuf) {
        let watching = self.watching.lock();
        if watching.is_empty() {
            return;
        }
        let path = to();
        for paths in &*watching {
            paths.lock().insert(path.clone());
        }
    }
}

impl Watch<'_> {
    /// The places that something moved to since the last time. What has moved on since is not
    /// there any more, or in a directory that moved and is another of these.
    pub fn take(&self) -> HashSet<PathBuf> {
        std::mem::take(&mut *self.paths.lock())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.moves.watching.lock().retain(|paths| !Arc::ptr_eq(paths, &self.paths));
    }
}
