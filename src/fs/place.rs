//! The choke point: an inode, or a directory and a name, becomes a directory descriptor and a
//! stored name. Every path-based call goes through here.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};

use super::inode::InodeNumbers;
use super::nodes::{Link, Nodes, Whereabouts};
use super::{FsError, Inode};
use crate::store::{Names, OWN_DIR, Vault};

/// A stored name in an open directory.
#[derive(Debug, Clone)]
pub struct Place {
    dir: Arc<OwnedFd>,
    name: Box<OsStr>,
}

impl Place {
    /// A stored name in an open directory.
    pub fn new(dir: Arc<OwnedFd>, stored: &OsStr) -> Self {
        Self { dir, name: OsString::from(stored).into_boxed_os_str() }
    }

    /// The directory.
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// The stored name; `.` for the root.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// A path for the calls that have no form with a directory descriptor. It names what is at
    /// the place, not what a symbolic link there points to, when used with an `l…` call.
    pub fn proc_path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd())).join(&*self.name)
    }

    /// What lies there.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.dir, &*self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Finds places, and keeps the directories that it opened for a while.
#[derive(Debug)]
pub struct Places {
    root: Arc<OwnedFd>,
    numbers: InodeNumbers,
    device: u64,
    names: Names,
    /// Directories lately used. Forgotten all at once when there are too many: those still in
    /// use are soon opened again.
    dirs: DashMap<Inode, Arc<OwnedFd>>,
    most_dirs: usize,
}

impl Places {
    /// For a vault; at most `most_dirs` directories are kept open.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn new(vault: &Vault, most_dirs: usize) -> Result<Self, FsError> {
        let root = open_dir(vault.as_fd(), OsStr::new("."))?;
        let stat = rustix::fs::fstat(&root)?;
        Ok(Self {
            root: Arc::new(root),
            numbers: InodeNumbers::new(stat.st_ino),
            device: stat.st_dev,
            names: vault.names(),
            dirs: DashMap::new(),
            most_dirs,
        })
    }

    /// How names are stored.
    pub fn names(&self) -> Names {
        self.names
    }

    /// The inode of a backing stat.
    ///
    /// # Errors
    /// [`FsError::Unsupported`] for what lies on another filesystem than the vault.
    pub fn inode(&self, stat: &Stat) -> Result<Inode, FsError> {
        if stat.st_dev != self.device {
            return Err(FsError::Unsupported);
        }
        Ok(self.numbers.of_backing(stat.st_ino))
    }

    /// The mount's number for a backing inode number.
    pub fn number(&self, backing: u64) -> Inode {
        self.numbers.of_backing(backing)
    }

    /// The place of `name` in the directory `parent`.
    ///
    /// # Errors
    /// [`FsError::Reserved`] for the vault's own directory; [`FsError::Stale`],
    /// [`FsError::NotFound`] where the parent has no place any more.
    pub fn child(&self, nodes: &Nodes, parent: Inode, name: &OsStr) -> Result<Place, FsError> {
        if parent == Inode::ROOT && name == OWN_DIR {
            return Err(FsError::Reserved);
        }
        Ok(Place::new(self.dir(nodes, parent)?, &self.names.store(name)))
    }

    /// A place of `inode`.
    ///
    /// # Errors
    /// [`FsError::Stale`] where none is known, [`FsError::NotFound`] where it has none any more.
    pub fn of(&self, nodes: &Nodes, inode: Inode) -> Result<Place, FsError> {
        if inode == Inode::ROOT {
            return Ok(Place::new(Arc::clone(&self.root), OsStr::new(".")));
        }
        match nodes.whereabouts(inode) {
            Whereabouts::At(Link { parent, name }) => {
                Ok(Place { dir: self.dir(nodes, parent)?, name })
            }
            Whereabouts::Gone(_) => Err(FsError::NotFound),
            Whereabouts::Nowhere => Err(FsError::Stale),
        }
    }

    /// The directory `inode`, open for the calls that take a directory descriptor.
    ///
    /// # Errors
    /// As [`Places::of`]; what the backing filesystem says.
    pub fn dir(&self, nodes: &Nodes, inode: Inode) -> Result<Arc<OwnedFd>, FsError> {
        if inode == Inode::ROOT {
            return Ok(Arc::clone(&self.root));
        }
        if let Some(dir) = self.dirs.get(&inode) {
            return Ok(Arc::clone(&dir));
        }
        let place = self.of(nodes, inode)?;
        let dir = Arc::new(open_dir(place.dir(), place.name())?);
        if self.inode(&rustix::fs::fstat(&dir)?)? != inode {
            return Err(FsError::Stale);
        }
        if self.dirs.len() >= self.most_dirs {
            self.dirs.clear();
        }
        self.dirs.insert(inode, Arc::clone(&dir));
        Ok(dir)
    }

    /// Closes a directory that was removed.
    pub fn forget_dir(&self, inode: Inode) {
        self.dirs.remove(&inode);
    }

    /// The path in the mount, as far as it is known: for messages.
    pub fn path(&self, nodes: &Nodes, inode: Inode) -> PathBuf {
        path_of(nodes, inode, |stored| self.names.open(stored))
    }

    /// The paths in the mount of an inode that has a name, one for each that is known.
    pub fn paths(&self, nodes: &Nodes, inode: Inode) -> Vec<PathBuf> {
        let below = |link: Link| {
            let parent = self.path(nodes, link.parent);
            parent.join(self.names.open(&link.name))
        };
        nodes.links(inode).into_iter().map(below).collect()
    }

    /// The path in the vault, as far as it is known.
    pub fn stored_path(&self, nodes: &Nodes, inode: Inode) -> PathBuf {
        path_of(nodes, inode, |stored| Cow::Borrowed(stored))
    }
}

/// The path of the names of an inode and of the directories above it.
fn path_of(nodes: &Nodes, inode: Inode, open: impl Fn(&OsStr) -> Cow<'_, OsStr>) -> PathBuf {
    // They come from the bottom up, so the path is put together from its end.
    let mut backwards = Vec::with_capacity(64);
    let mut put = |name: &OsStr| {
        if !backwards.is_empty() {
            backwards.push(b'/');
        }
        backwards.extend(name.as_bytes().iter().rev());
    };
    let mut at = inode;
    // A rename meanwhile could close a circle: no path has more names than this.
    for _ in 0..4096 {
        if at == Inode::ROOT {
            break;
        }
        let above = nodes.with_link(at, |link| {
            put(&open(&link.name));
            link.parent
        });
        let Some(parent) = above else {
            put(OsStr::new(&format!("(inode {})", at.0)));
            break;
        };
        at = parent;
    }
    backwards.reverse();
    OsString::from_vec(backwards).into()
}

fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, FsError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?)
}
