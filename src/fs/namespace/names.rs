//! Names and the inodes that have them, and the locks under which one is found by the other.

use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::at_path::AtPath;
use super::key_locks::{KeyLock, Mode};
use super::moves::Move;
use super::nodes::{Link, Location};
use super::resolver::backing;
use crate::fs::descriptors;
use crate::fs::{Fs, FsError, Inode};
use crate::store::METADATA_DIR;

/// The locks of one or two names, held until this is dropped.
pub type NameLocks<'a> = (KeyLock<'a>, Option<KeyLock<'a>>);

impl Fs {
    /// The path of `name` in the directory `parent`.
    ///
    /// # Errors
    /// [`FsError::Reserved`] for the vault's own directory; [`FsError::Stale`],
    /// [`FsError::NotFound`] where the parent was removed.
    pub(in crate::fs) fn at_path(&self, parent: Inode, name: &OsStr) -> Result<AtPath, FsError> {
        if parent == Inode::ROOT && name == METADATA_DIR {
            return Err(FsError::Reserved);
        }
        Ok(AtPath::new(self.dir(parent)?, &self.resolver.names().store(name)))
    }

    /// The directory `inode`, open for the calls that take a directory descriptor.
    ///
    /// # Errors
    /// [`FsError::Stale`] where no place of it is known, [`FsError::NotFound`] where it has none any
    /// more; [`FsError::Backing`] with the error of openat(2).
    pub(in crate::fs) fn dir(&self, inode: Inode) -> Result<Arc<OwnedFd>, FsError> {
        match self.resolver.open_dir(inode) {
            Some(dir) => Ok(dir),
            None => self.moves.follow(|| self.resolver.dir(&self.nodes, inode)),
        }
    }

    /// Locks the name at `at_path` in `parent`, to find or use it: shared.
    pub(in crate::fs) fn lock_name(&self, parent: Inode, at_path: &AtPath) -> KeyLock<'_> {
        self.names.read(self.name_key(parent, at_path.name()))
    }

    /// Locks the name at `at_path` in `parent`, to make or remove it: exclusive.
    pub(in crate::fs) fn lock_name_alone(&self, parent: Inode, at_path: &AtPath) -> KeyLock<'_> {
        self.names.write(self.name_key(parent, at_path.name()))
    }

    /// [`Fs::lock_name_alone`] for two names.
    pub(in crate::fs) fn lock_names_alone(
        &self,
        (parent, at_path): (Inode, &AtPath),
        (other_parent, other): (Inode, &AtPath),
    ) -> NameLocks<'_> {
        let one = self.name_key(parent, at_path.name());
        let other = self.name_key(other_parent, other.name());
        self.names.both((one, Mode::Write), (other, Mode::Write))
    }

    /// Locks the number of names of an inode, to change it. After the names.
    pub(in crate::fs) fn lock_links(&self, inode: Inode) -> KeyLock<'_> {
        self.links.write(inode.0)
    }

    /// A path of `inode`, where it stays as long as the lock is held. There is no lock for an inode
    /// without a known name, and for the root.
    ///
    /// # Errors
    /// As [`Fs::dir`].
    pub(in crate::fs) fn locked_path(
        &self,
        inode: Inode,
    ) -> Result<(AtPath, Option<KeyLock<'_>>), FsError> {
        if inode == Inode::ROOT {
            return Ok((self.resolver.root(), None));
        }
        loop {
            let link = match self.nodes.locate(inode) {
                Location::Linked(link) => link,
                found => return Ok((unlinked_path(found)?, None)),
            };
            let held = self.names.read(self.name_key(link.parent, &link.name));
            if let Some(born) = self.nodes.born(inode, &link) {
                return Ok((AtPath::of_name(self.dir(link.parent)?, link.name, born), Some(held)));
            }
        }
    }

    /// [`Fs::locked_path`] as a descriptor of the inode, to be changed: another process may have
    /// put another file at the path.
    ///
    /// # Errors
    /// As [`Fs::dir`]; [`FsError::Stale`] where it is another.
    pub(in crate::fs) fn locked_inode(
        &self,
        inode: Inode,
    ) -> Result<(AtPath, Option<KeyLock<'_>>), FsError> {
        let (at_path, held) = self.locked_path(inode)?;
        Ok((self.itself(inode, at_path)?, held))
    }

    /// `inode` by a descriptor, if it lies at `at_path`.
    ///
    /// # Errors
    /// [`FsError::Stale`] where another does; [`FsError::Backing`] with the error of openat(2).
    pub(in crate::fs) fn itself(&self, inode: Inode, at_path: AtPath) -> Result<AtPath, FsError> {
        if at_path.is_itself() {
            return Ok(at_path);
        }
        let fd = match at_path.open(OFlags::PATH) {
            Err(errno) if descriptors::is_exhausted(errno) => {
                self.free_descriptors();
                at_path.open(OFlags::PATH)
            }
            opened => opened,
        }?;
        self.resolver.stat_of(inode, &at_path, fd.as_fd())?;
        Ok(AtPath::itself(Arc::new(fd)))
    }

    /// [`Fs::locked_path`] of `inode`, while the name at `to` in `parent` is held alone.
    ///
    /// # Errors
    /// As [`Fs::dir`].
    pub(in crate::fs) fn locked_path_and(
        &self,
        inode: Inode,
        (parent, to): (Inode, &AtPath),
    ) -> Result<(AtPath, NameLocks<'_>), FsError> {
        let to = (self.name_key(parent, to.name()), Mode::Write);
        loop {
            let link = match self.nodes.locate(inode) {
                Location::Linked(link) => link,
                found => return Ok((unlinked_path(found)?, (self.names.write(to.0), None))),
            };
            let held = self.names.both((self.name_key(link.parent, &link.name), Mode::Read), to);
            if let Some(born) = self.nodes.born(inode, &link) {
                return Ok((AtPath::of_name(self.dir(link.parent)?, link.name, born), held));
            }
        }
    }

    /// The path of a name in a directory.
    pub(in crate::fs) fn path_in(&self, parent: Inode, name: &OsStr) -> PathBuf {
        let _ancestry = self.ancestry.read();
        self.resolver.path(&self.nodes, parent).join(name)
    }

    /// The path of a file as it is now; of one that has several, the last.
    pub fn path_of(&self, inode: Inode) -> PathBuf {
        let _ancestry = self.ancestry.read();
        self.resolver.path(&self.nodes, inode)
    }

    pub(in crate::fs) fn paths_of(&self, inode: Inode) -> Vec<PathBuf> {
        let _ancestry = self.ancestry.read();
        self.resolver.paths(&self.nodes, inode)
    }

    pub(in crate::fs) fn link_to(&self, parent: Inode, at_path: &AtPath) -> Link {
        Link::new(parent, at_path.name())
    }

    /// Notes for walks that something was moved to `at_path`.
    pub(in crate::fs) fn note_move(&self, moved: &Move<'_>, parent: Inode, at_path: &AtPath) {
        moved.note(|| self.resolver.stored_path(&self.nodes, parent).join(at_path.name()));
    }

    /// Two names may have the same number; then they share a lock.
    fn name_key(&self, parent: Inode, stored: &OsStr) -> u64 {
        self.name_hash.hash_one((parent, stored))
    }
}

fn unlinked_path(found: Location) -> Result<AtPath, FsError> {
    match found {
        Location::Pinned(pin) => Ok(AtPath::itself(pin.descriptor().map_err(backing)?)),
        Location::Unlinked => Err(FsError::NotFound),
        Location::Linked(_) | Location::Unknown => Err(FsError::Stale),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use rustix::fs::RenameFlags;

    use super::*;
    use crate::fs::tests::new_fs;
    use crate::fs::{Attr, OpenMode, Subject};

    const CALLER: Subject = Subject::process(0, 0, 1);
    const ROUNDS: u32 = 400;

    fn mkdir(fs: &Fs, parent: Inode, name: &str) -> Inode {
        fs.mkdir(parent, OsStr::new(name), 0o700, &CALLER).unwrap().attr.inode
    }

    fn create(fs: &Fs, parent: Inode, name: &str) -> Attr {
        let how = (OpenMode::READ_WRITE, true);
        let (made, _) = fs.create(parent, OsStr::new(name), 0o600, how, &CALLER).unwrap();
        fs.release(made.attr.inode).unwrap();
        made.attr
    }

    fn rename(fs: &Fs, from: (Inode, &str), to: (Inode, &str), flags: RenameFlags) {
        let (name, new_name) = (OsStr::new(from.1), OsStr::new(to.1));
        fs.rename(from.0, name, to.0, new_name, flags, &CALLER).unwrap();
    }

    #[test]
    fn all_is_found_while_names_move() {
        let (_vault, fs) = new_fs();
        let (a, b) = (mkdir(&fs, Inode::ROOT, "a"), mkdir(&fs, Inode::ROOT, "b"));
        let moving = mkdir(&fs, a, "dir");
        mkdir(&fs, b, "other");
        let below = mkdir(&fs, moving, "below");
        let file = create(&fs, below, "file").inode;
        create(&fs, below, "there");
        let (fs, moved) = (&fs, &AtomicBool::new(false));
        let repeat = move |work: &dyn Fn(u32)| {
            let mut round = 0;
            while !moved.load(Ordering::Relaxed) {
                work(round);
                round += 1;
            }
        };
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    rename(fs, (a, "dir"), (b, "dir"), RenameFlags::NOREPLACE);
                    rename(fs, (b, "dir"), (b, "other"), RenameFlags::EXCHANGE);
                    rename(fs, (b, "dir"), (b, "other"), RenameFlags::EXCHANGE);
                    rename(fs, (b, "dir"), (a, "dir"), RenameFlags::empty());
                }
                moved.store(true, Ordering::Relaxed);
            });
            scope.spawn(move || {
                repeat(&|_| {
                    rename(fs, (below, "file"), (moving, "file"), RenameFlags::empty());
                    rename(fs, (moving, "file"), (below, "file"), RenameFlags::empty());
                });
            });
            scope.spawn(move || {
                repeat(&|_| {
                    fs.resolver.close_dirs();
                    assert_eq!(fs.getattr(file).unwrap().inode, file);
                    fs.getattr(below).unwrap();
                    let handle = fs.open(file, OpenMode::READ, &CALLER).unwrap();
                    fs.forget_opener(handle);
                    fs.release(file).unwrap();
                    let found = fs.lookup(below, OsStr::new("there")).unwrap();
                    fs.forget(found.attr.inode, 1);
                    assert_eq!(fs.key_of_dir(below).unwrap(), crate::store::KeyChoice::Default);
                    let path = fs.path_of(below);
                    let paths = ["a/dir/below", "b/dir/below", "b/other/below"];
                    assert!(paths.iter().any(|known| path == Path::new(known)), "{path:?}");
                });
            });
            for thread in 0..2 {
                scope.spawn(move || {
                    repeat(&|round| {
                        let names = [0, 1].map(|one| format!("{thread}-{round}-{one}"));
                        let made = create(fs, below, &names[0]).inode;
                        let linked = fs.link(made, a, OsStr::new(&names[1]), &CALLER).unwrap();
                        assert_eq!((linked.attr.inode, linked.attr.nlink), (made, 2));
                        assert_eq!(fs.unlink(below, OsStr::new(&names[0])).unwrap(), made);
                        assert_eq!(fs.getattr(made).unwrap().nlink, 1);
                        assert_eq!(fs.unlink(a, OsStr::new(&names[1])).unwrap(), made);
                        assert_eq!(fs.getattr(made).unwrap().nlink, 0);
                        fs.forget(made, 2);
                    });
                });
            }
        });
        // a, b, dir, other, below, file and there.
        assert_eq!(fs.known_inodes(), 7);
    }
}
