//! Which files a version of a master key wraps.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use rustix::io::Errno;

use super::maintain::{Failure, Progress, failure};
use super::walk::Visited;
use super::{Fs, FsError};
use crate::format::{KeyVersion, MasterKeyId};
use crate::store::{Access, METADATA_DIR, VaultError, WrappedBy};

/// Paths that [`References::some`] names at most.
const SOME: usize = 10;

/// What [`Fs::references`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Files whose key the version wraps, the vault's own key among them.
    pub count: u64,
    /// The paths of some of them, ten at most; `.atrest` for the vault's own key.
    pub some: Vec<PathBuf>,
    /// Files and directories that could not be read, so that nobody knows.
    pub unreadable: Vec<Failure>,
}

impl References {
    /// Whether the version is shown to be used by no file.
    pub fn none(&self) -> bool {
        self.count == 0 && self.unreadable.is_empty()
    }
}

impl Fs {
    /// Counts what a version of a master key wraps, or all of its versions, by the headers. For a version that is not the
    /// current one, and so wraps nothing new, the answer stays true; where it is that there is
    /// nothing, the headers that say so are durable.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` said so; what the backing filesystem says of the
    /// vault's directory.
    pub fn references(
        &self,
        key: &MasterKeyId,
        version: impl Into<Option<KeyVersion>>,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<References, VaultError> {
        let mut tally = Tally {
            wanted: (*key, version.into()),
            found: References::default(),
            counted: HashSet::new(),
        };
        let description = self.vault.description();
        if tally.is_wanted((description.key, description.key_version)) {
            tally.note(|| PathBuf::from(METADATA_DIR));
        }
        let tally = Mutex::new(tally);
        let count = self.counter(Path::new(""), progress)?;
        self.each_file_even_moved(
            &|visited, look| {
                let by = self.wrapped_by(visited);
                tally.lock().add(by, || visited.path());
                count.look(look)
            },
            &|path, error| tally.lock().found.unreadable.push(failure(path, &error)),
        )?;
        count.finish()?;
        // After the walk: what is unlinked while it runs is reached by this alone.
        let opened = self.open.each(|_, file| {
            let by = file.wrapped_by();
            by.map_err(|error| FsError::File { path: PathBuf::new(), error })
        });
        for (inode, by) in opened {
            let by = by.map(|by| (inode.0, by));
            tally.lock().add(by, || self.places.path(&self.nodes, inode));
        }
        let found = tally.into_inner().finish();
        if found.none() {
            self.vault.sync()?;
        }
        Ok(found)
    }

    /// The inode of what the walk came by, and what wraps its key.
    fn wrapped_by(&self, visited: &Visited<'_>) -> Result<(u64, Option<WrappedBy>), FsError> {
        self.on_visited(visited, Access::ReadOnly, |file, stat| {
            let by = file.wrapped_by();
            let by = by.map_err(|error| FsError::File { path: PathBuf::new(), error })?;
            Ok((self.places.inode(stat)?.0, by))
        })
    }
}

/// What was found so far.
struct Tally {
    /// Which version of which key; all of them where none is named.
    wanted: (MasterKeyId, Option<KeyVersion>),
    found: References,
    /// Inodes that were counted: a file may have several names, and may be come by twice.
    counted: HashSet<u64>,
}

impl Tally {
    fn is_wanted(&self, (key, version): WrappedBy) -> bool {
        let (wanted, of) = self.wanted;
        key == wanted && of.is_none_or(|of| of == version)
    }

    fn add(
        &mut self,
        by: Result<(u64, Option<WrappedBy>), FsError>,
        path: impl FnOnce() -> PathBuf,
    ) {
        match by {
            Ok((inode, by)) => {
                if by.is_some_and(|by| self.is_wanted(by)) && self.counted.insert(inode) {
                    self.note(path);
                }
            }
            // Gone, or moved and so come by elsewhere.
            Err(FsError::Backing(Errno::NOENT) | FsError::Stale) => {}
            Err(error) => self.found.unreadable.push(failure(&path(), &error)),
        }
    }

    fn note(&mut self, path: impl FnOnce() -> PathBuf) {
        self.found.count += 1;
        if self.found.some.len() < SOME {
            self.found.some.push(path());
        }
    }

    fn finish(self) -> References {
        let mut found = self.found;
        found.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
        found.unreadable.dedup_by(|a, b| a.path == b.path);
        found
    }
}
