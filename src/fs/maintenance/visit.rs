//! Visiting each file of the vault beside the mount's users, through the same open files.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::Stat;
use rustix::io::Errno;

use super::tally::{Pass, Progress, Tally};
use super::walk::{Visited, walk};
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError};
use crate::store::{Access, VaultError};

impl Fs {
    /// Walks the vault, and then again whatever was moved meanwhile, until nothing was: no file
    /// that is there all the time is missed, and one that is moved may be visited twice.
    pub(in crate::fs) fn each_file_even_moved(
        &self,
        file: &(dyn Fn(&Visited<'_>, Pass) -> bool + Sync),
        failed: &(dyn Fn(&Path, FsError) + Sync),
    ) -> Result<(), VaultError> {
        let moves = self.moves.watch();
        let stopped = AtomicBool::new(false);
        let go_on = |go_on: bool| {
            stopped.fetch_or(!go_on, Ordering::Relaxed);
            go_on
        };
        self.each_file(Path::new(""), &|visited| go_on(file(visited, Pass::Initial)), failed)?;
        while !stopped.load(Ordering::Relaxed) {
            let moved = moves.take();
            if moved.is_empty() {
                break;
            }
            for path in moved {
                let again = |visited: &Visited<'_>| go_on(file(visited, Pass::Revisit));
                match walk(self.vault.as_fd(), &path, &again, failed) {
                    Ok(()) | Err(FsError::Backing(Errno::NOENT | Errno::NOTDIR)) => {}
                    Err(error) => failed(&path, error),
                }
            }
        }
        Ok(())
    }

    /// Walks the vault; a failure at `start` itself is the error.
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

    /// A tally for a walk from `start`. The files are counted for it, which reads the directories
    /// and nothing else.
    pub(in crate::fs) fn tally<'a>(
        &self,
        start: &Path,
        progress: &'a (dyn Fn(Progress) -> bool + Sync),
    ) -> Result<Tally<'a>, VaultError> {
        let total = AtomicU64::new(0);
        let count = |_: &Visited<'_>| {
            total.fetch_add(1, Ordering::Relaxed);
            true
        };
        self.each_file(start, &count, &|_, _| {})?;
        Ok(Tally::new(total.into_inner(), progress))
    }

    /// Runs `work` on the one shared open file of what the walk visits.
    pub(in crate::fs) fn on_visited<T>(
        &self,
        visited: &Visited<'_>,
        access: Access,
        work: impl FnOnce(&OpenFile, &Stat) -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        let (found, stat) = self.open.open_found(&visited.at_path(), access)?;
        let inode = self.resolver.inode(&stat)?;
        let file = self.open.acquire_found(inode, found)?;
        let result = work(&file, &stat);
        drop(file);
        let released = self.open.release(inode);
        let released = released.map_err(|error| FsError::File { path: visited.path(), error });
        result.and_then(|value| released.map(|()| value))
    }
}
