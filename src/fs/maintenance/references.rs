//! Which files a version of a master key wraps.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::tally::{FileFailure, Progress};
use super::walk::Visited;
use crate::format::{KeyVersion, MasterKeyId};
use crate::fs::ops::open_files::open_file::in_some_file;
use crate::fs::{Fs, FsError, Inode};
use crate::store::{Access, METADATA_DIR, VaultError, WrappedBy};

/// Paths that [`References::some`] names at most.
const MAX_PATHS: usize = 10;

/// What [`Fs::references`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct References {
    /// Files whose key the version wraps, the vault's own key among them.
    pub count: u64,
    /// The paths of some of them, ten at most; `.atrest` for the vault's own key.
    pub some: Vec<PathBuf>,
    /// Files and directories that could not be read, and may be further references.
    pub unreadable: Vec<FileFailure>,
}

impl References {
    /// Whether the version is shown to be used by no file.
    pub fn none(&self) -> bool {
        self.count == 0 && self.unreadable.is_empty()
    }
}

impl Fs {
    /// Counts the files whose headers name a version of a master key, or any of its versions. An
    /// old version wraps nothing new, so the answer stays true; when it is none, the headers are
    /// durable.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` stopped it; [`VaultError::Io`] where the vault's
    /// directory can't be opened.
    pub fn references(
        &self,
        key: &MasterKeyId,
        version: impl Into<Option<KeyVersion>>,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<References, VaultError> {
        let wanted = Wanted { key: *key, version: version.into(), found: Mutex::default() };
        let description = self.vault.description();
        if wanted.has((description.key, description.key_version)) {
            wanted.add(|| PathBuf::from(METADATA_DIR));
        }
        let tally = self.tally(Path::new(""), progress)?;
        let add = |by: Result<(Inode, Option<WrappedBy>), FsError>, path: &dyn Fn() -> PathBuf| {
            if let Some((inode, Some(by))) = tally.done(by, path)
                && wanted.has(by)
                && tally.count(inode)
            {
                wanted.add(path);
            }
        };
        self.each_file_even_moved(
            &|visited, pass| {
                add(self.wrapped_by(visited), &|| visited.path());
                tally.advance(pass)
            },
            &|path, error| tally.fail(path, &error),
        )?;
        tally.require_end()?;
        // After the walk: what is unlinked while it runs is reached by this alone.
        for (inode, by) in self.open.each(|_, file| in_some_file(file.wrapped_by())) {
            let path = || self.resolver.path(&self.nodes, inode);
            add(by.map(|by| (inode, by)), &path);
        }
        let unreadable = tally.into_failures();
        let found = References { unreadable, ..wanted.found.into_inner() };
        if found.none() {
            self.vault.sync()?;
        }
        Ok(found)
    }

    /// The inode of what the walk visits, and what wraps its key.
    fn wrapped_by(&self, visited: &Visited<'_>) -> Result<(Inode, Option<WrappedBy>), FsError> {
        self.on_visited(visited, Access::ReadOnly, |file, _| {
            Ok((file.inode(), in_some_file(file.wrapped_by())?))
        })
    }
}

/// The version of a key that is looked for, and the files found so far.
struct Wanted {
    key: MasterKeyId,
    /// All versions where none is named.
    version: Option<KeyVersion>,
    found: Mutex<References>,
}

impl Wanted {
    fn has(&self, (key, version): WrappedBy) -> bool {
        key == self.key && self.version.is_none_or(|wanted| wanted == version)
    }

    fn add(&self, path: impl FnOnce() -> PathBuf) {
        let mut found = self.found.lock();
        found.count += 1;
        if found.some.len() < MAX_PATHS {
            found.some.push(path());
        }
    }
}
