//! Names and the inodes that have them, and the locks under which one is found by the other.

use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::OFlags;

use super::descriptors;
use super::key_locks::{KeyLock, Mode};
use super::moves::Move;
use super::nodes::{Link, Location};
use super::place::{Place, backing};
use super::{Fs, FsError, Inode};
use crate::store::METADATA_DIR;

/// The locks of the one or two names that a call is about, held until it is dropped.
pub(super) type HeldNames<'a> = (KeyLock<'a>, Option<KeyLock<'a>>);

impl Fs {
    /// The place of `name` in the directory `parent`.
    ///
    /// # Errors
    /// [`FsError::Reserved`] for the vault's own directory; [`FsError::Stale`],
    /// [`FsError::NotFound`] where the parent has no place any more.
    pub(super) fn place(&self, parent: Inode, name: &OsStr) -> Result<Place, FsError> {
        if parent == Inode::ROOT && name == METADATA_DIR {
            return Err(FsError::Reserved);
        }
        Ok(Place::new(self.dir(parent)?, &self.places.names().store(name)))
    }

    /// The directory `inode`, open for the calls that take a directory descriptor.
    ///
    /// # Errors
    /// [`FsError::Stale`] where no place of it is known, [`FsError::NotFound`] where it has none any
    /// more; what the backing filesystem says.
    pub(super) fn dir(&self, inode: Inode) -> Result<Arc<OwnedFd>, FsError> {
        match self.places.open_dir(inode) {
            Some(dir) => Ok(dir),
            None => self.moves.follow(|| self.places.dir(&self.nodes, inode)),
        }
    }

    /// Holds the name at `place` in `parent` for one who finds or uses it.
    pub(super) fn hold(&self, parent: Inode, place: &Place) -> KeyLock<'_> {
        self.names.read(self.name_key(parent, place.name()))
    }

    /// Holds the name at `place` in `parent` for one who makes or removes it.
    pub(super) fn hold_alone(&self, parent: Inode, place: &Place) -> KeyLock<'_> {
        self.names.write(self.name_key(parent, place.name()))
    }

    /// [`Fs::hold_alone`] for the names at two places.
    pub(super) fn hold_both_alone(
        &self,
        (parent, place): (Inode, &Place),
        (other_parent, other): (Inode, &Place),
    ) -> HeldNames<'_> {
        let one = self.name_key(parent, place.name());
        let other = self.name_key(other_parent, other.name());
        self.names.both((one, Mode::Write), (other, Mode::Write))
    }

    /// Holds how many names an inode has for one who changes it. After the names.
    pub(super) fn hold_links(&self, inode: Inode) -> KeyLock<'_> {
        self.links.write(inode.0)
    }

    /// A place of `inode`, where it stays as long as the lock is held: there is none where it has no
    /// known name, and for the root.
    ///
    /// # Errors
    /// As [`Fs::dir`].
    pub(super) fn held_place(&self, inode: Inode) -> Result<(Place, Option<KeyLock<'_>>), FsError> {
        if inode == Inode::ROOT {
            return Ok((self.places.root(), None));
        }
        loop {
            let link = match self.nodes.locate(inode) {
                Location::At(link) => link,
                found => return Ok((nameless_place(found)?, None)),
            };
            let held = self.names.read(self.name_key(link.parent, &link.name));
            if let Some(born) = self.nodes.born(inode, &link) {
                return Ok((Place::of_name(self.dir(link.parent)?, link.name, born), Some(held)));
            }
        }
    }

    /// [`Fs::held_place`] as a descriptor of the inode, which is acted on: what lies at the place by
    /// now may be another file, put there behind the daemon's back.
    ///
    /// # Errors
    /// As [`Fs::dir`]; [`FsError::Stale`] where it is another.
    pub(super) fn held_inode(&self, inode: Inode) -> Result<(Place, Option<KeyLock<'_>>), FsError> {
        let (place, held) = self.held_place(inode)?;
        Ok((self.itself(inode, place)?, held))
    }

    /// `inode` by a descriptor, if it lies at `place`.
    ///
    /// # Errors
    /// [`FsError::Stale`] where another does; what the backing filesystem says.
    pub(super) fn itself(&self, inode: Inode, place: Place) -> Result<Place, FsError> {
        if place.is_itself() {
            return Ok(place);
        }
        let fd = match place.open(OFlags::PATH) {
            Err(errno) if descriptors::are_short(errno) => {
                self.spare_descriptors();
                place.open(OFlags::PATH)
            }
            opened => opened,
        }?;
        self.places.stat_of(inode, &place, fd.as_fd())?;
        Ok(Place::itself(Arc::new(fd)))
    }

    /// [`Fs::held_place`] of `inode`, while the name at `to` in `parent` is held alone.
    ///
    /// # Errors
    /// As [`Fs::dir`].
    pub(super) fn held_place_and(
        &self,
        inode: Inode,
        (parent, to): (Inode, &Place),
    ) -> Result<(Place, HeldNames<'_>), FsError> {
        let to = (self.name_key(parent, to.name()), Mode::Write);
        loop {
            let link = match self.nodes.locate(inode) {
                Location::At(link) => link,
                found => return Ok((nameless_place(found)?, (self.names.write(to.0), None))),
            };
            let held = self.names.both((self.name_key(link.parent, &link.name), Mode::Read), to);
            if let Some(born) = self.nodes.born(inode, &link) {
                return Ok((Place::of_name(self.dir(link.parent)?, link.name, born), held));
            }
        }
    }

    pub(super) fn link_to(&self, parent: Inode, place: &Place) -> Link {
        Link::new(parent, place.name())
    }

    /// Notes for walks that something has come to lie at `place`.
    pub(super) fn note_move(&self, moved: &Move<'_>, parent: Inode, place: &Place) {
        moved.note(|| self.places.stored_path(&self.nodes, parent).join(place.name()));
    }

    /// Two names may give the same number, and then wait for each other.
    fn name_key(&self, parent: Inode, stored: &OsStr) -> u64 {
        self.name_hash.hash_one((parent, stored))
    }
}

fn nameless_place(found: Location) -> Result<Place, FsError> {
    match found {
        Location::Pinned(pin) => Ok(Place::itself(pin.descriptor().map_err(backing)?)),
        Location::Gone => Err(FsError::NotFound),
        Location::At(_) | Location::Nowhere => Err(FsError::Stale),
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
    use crate::fs::{Attr, Caller, Wanted};
    use crate::store::KeyChoice;

    const CALLER: Caller = Caller { uid: 0, gid: 0, pid: 1 };
    const ROUNDS: u32 = 400;

    fn mkdir(fs: &Fs, parent: Inode, name: &str) -> Inode {
        fs.mkdir(parent, OsStr::new(name), 0o700, &CALLER).unwrap().attr.inode
    }

    fn create(fs: &Fs, parent: Inode, name: &str) -> Attr {
        let how = (Wanted::BOTH, true);
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
                    fs.places.close_dirs();
                    assert_eq!(fs.getattr(file).unwrap().inode, file);
                    fs.getattr(below).unwrap();
                    let handle = fs.open(file, Wanted::READ, &CALLER).unwrap();
                    fs.forget_opener(handle);
                    fs.release(file).unwrap();
                    let found = fs.lookup(below, OsStr::new("there")).unwrap();
                    fs.forget(found.attr.inode, 1);
                    assert_eq!(fs.key_of_dir(below).unwrap(), KeyChoice::Default);
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
