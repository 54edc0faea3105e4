//! Moves of files and directories, as seen by a concurrent walk or path resolution.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::io::Errno;

use crate::fs::FsError;

type Paths = Arc<Mutex<HashSet<PathBuf>>>;

/// The moves in flight, and where files and directories moved to, for the walks under way: a move
/// may carry a file from what is still to be walked to what was walked.
#[derive(Debug, Default)]
pub struct Moves {
    state: Mutex<State>,
    /// A move is no longer in flight.
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    watching: Vec<Paths>,
    /// The number of the next move.
    next: u64,
    /// How many of those that began were of directories.
    of_directories: u64,
    in_flight: Vec<InFlight>,
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    of_directory: bool,
}

/// A move that may or may not have taken effect in the vault, and is not noted yet. Its holder
/// waits for nothing but the backing filesystem.
#[derive(Debug)]
pub struct Move<'a> {
    moves: &'a Moves,
    number: u64,
}

/// A subscription to moves, until it is dropped.
#[derive(Debug)]
pub struct Watch<'a> {
    moves: &'a Moves,
    paths: Paths,
}

impl Moves {
    /// Before something is moved.
    pub fn begin(&self, of_directory: bool) -> Move<'_> {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.of_directories += u64::from(of_directory);
        state.in_flight.push(InFlight { number, of_directory });
        Move { moves: self, number }
    }

    /// From now on the moves are kept for the caller.
    pub fn watch(&self) -> Watch<'_> {
        let paths = Paths::default();
        self.state.lock().watching.push(Arc::clone(&paths));
        Watch { moves: self, paths }
    }

    /// Does `work`, which follows the known names of directories, and does it again where it does not
    /// find one while a directory moves.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn follow<T>(&self, work: impl Fn() -> Result<T, FsError>) -> Result<T, FsError> {
        loop {
            let before = {
                let state = self.state.lock();
                let moving = state.in_flight.iter().any(|one| one.of_directory);
                (!moving).then_some(state.of_directories)
            };
            let done = work();
            if !done.as_ref().is_err_and(is_missing) {
                return done;
            }
            let state = self.wait_for(|one| one.of_directory);
            if before == Some(state.of_directories) {
                return done;
            }
        }
    }

    /// Waits until the moves of a kind have ended that are in flight now.
    fn wait_for(&self, kind: impl Fn(&InFlight) -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        let next = state.next;
        while state.in_flight.iter().any(|one| one.number < next && kind(one)) {
            self.ended.wait(&mut state);
        }
        state
    }
}

/// Whether an error can be that of a name that is not where it was.
fn is_missing(error: &FsError) -> bool {
    matches!(
        error,
        FsError::Stale
            | FsError::NotFound
            | FsError::Backing(Errno::NOENT | Errno::NOTDIR | Errno::LOOP)
    )
}

impl Move<'_> {
    /// Notes that something has moved to the stored path that `to` gives.
    pub fn note(&self, to: impl FnOnce() -> PathBuf) {
        let state = self.moves.state.lock();
        if state.watching.is_empty() {
            return;
        }
        let path = to();
        for paths in &state.watching {
            paths.lock().insert(path.clone());
        }
    }
}

impl Drop for Move<'_> {
    fn drop(&mut self) {
        let mut state = self.moves.state.lock();
        state.in_flight.retain(|one| one.number != self.number);
        drop(state);
        self.moves.ended.notify_all();
    }
}

impl Watch<'_> {
    /// The paths that something was moved to since the last call, by the moves that had begun. A
    /// path may be out of date, if its file or a directory above it was moved again; then the new
    /// path is another of these.
    pub fn take(&self) -> HashSet<PathBuf> {
        drop(self.moves.wait_for(|_| true));
        std::mem::take(&mut *self.paths.lock())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.moves.state.lock().watching.retain(|paths| !Arc::ptr_eq(paths, &self.paths));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);
    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_walk_learns_of_a_move_that_had_begun() {
        let moves = Moves::default();
        let watch = moves.watch();
        let moved = moves.begin(false);
        thread::scope(|scope| {
            let (send, taken) = channel();
            scope.spawn(move || send.send(watch.take()).unwrap());
            assert!(taken.recv_timeout(SHORT).is_err(), "it does not wait for the move");
            // One that begins later is for the next time.
            let later = moves.begin(false);
            moved.note(|| PathBuf::from("to"));
            drop(moved);
            assert_eq!(taken.recv_timeout(LONG).unwrap(), HashSet::from([PathBuf::from("to")]));
            drop(later);
        });
    }

    #[test]
    fn what_is_missing_is_looked_for_again_while_directories_move() {
        let moves = Moves::default();
        let times = Cell::new(0);
        let find = |at: u32| {
            times.set(times.get() + 1);
            if times.get() == at { Ok(()) } else { Err(FsError::Stale) }
        };
        assert!(moves.follow(|| find(2)).is_err());
        assert_eq!(times.replace(0), 1);
        let of_file = moves.begin(false);
        assert!(moves.follow(|| find(2)).is_err());
        assert_eq!(times.replace(0), 1);
        drop(of_file);
        // One that has begun and ended meanwhile.
        let move_then_find = || {
            if times.get() == 0 {
                drop(moves.begin(true));
            }
            find(2)
        };
        moves.follow(move_then_find).unwrap();
        times.set(0);
        // One that is in flight.
        let moved = moves.begin(true);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(SHORT);
                drop(moved);
            });
            moves.follow(|| find(2)).unwrap();
        });
    }
}
