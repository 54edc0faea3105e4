//! Turns an inode, or a directory and a name, into an `AtPath`. There is no other way to one.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use rustix::fs::{AtFlags, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::at_path::AtPath;
use super::cycle::CycleDetector;
use super::inode::InodeNumbers;
use super::nodes::{Link, Location, Nodes};
use crate::fs::descriptors::is_outside_reserve;
use crate::fs::{FsError, Inode};
use crate::store::{Names, Vault};
use crate::sys;

/// Resolves inodes to paths, and keeps directories open that it used lately.
#[derive(Debug)]
pub struct PathResolver {
    root: Arc<OwnedFd>,
    numbers: InodeNumbers,
    /// The stat of the vault's directory.
    root_stat: Stat,
    /// Whether a file keeps the time of its birth.
    keeps_births: bool,
    names: Names,
    /// Directories lately used. Where there are too many every second one is closed: of a deep
    /// chain of them some stay at every depth, and what is missing is near to one that stays.
    dirs: DashMap<Inode, Arc<OwnedFd>>,
    max_dirs: usize,
}

impl PathResolver {
    /// For a vault; at most `max_dirs` directories are kept open.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of openat(2) or fstat(2) on the vault's directory.
    pub fn new(vault: &Vault, max_dirs: usize) -> Result<Self, FsError> {
        let root = open_dir(vault.as_fd(), OsStr::new("."))?;
        let stat = rustix::fs::fstat(&root)?;
        let filesystem = rustix::fs::fstatfs(&root)?.f_type as u64;
        Ok(Self {
            root: Arc::new(root),
            numbers: InodeNumbers::new(stat.st_ino),
            root_stat: stat,
            keeps_births: filesystem != OVERLAYFS,
            names: vault.names(),
            dirs: DashMap::new(),
            max_dirs,
        })
    }

    /// Whether the path is a name in the mount's root.
    pub fn is_in_root(&self, at_path: &AtPath) -> bool {
        at_path.is_in(&self.root)
    }

    /// How names are stored.
    pub fn names(&self) -> Names {
        self.names
    }

    /// The stat of what lies at a path, and the [`generation`] of its inode number.
    ///
    /// # Errors
    /// That of statx(2).
    pub fn stat(&self, at_path: &AtPath) -> rustix::io::Result<(Stat, u32)> {
        self.stat_at(at_path.dir(), at_path.name(), at_path.at_flags())
    }

    /// [`PathResolver::stat`] by the arguments of statx(2).
    ///
    /// # Errors
    /// That of statx(2).
    pub fn stat_at(
        &self,
        dir: BorrowedFd<'_>,
        name: &OsStr,
        flags: AtFlags,
    ) -> rustix::io::Result<(Stat, u32)> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let found = rustix::fs::statx(dir, name, flags, wanted)?;
        let mut stat = self.root_stat;
        stat.st_dev = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor) as _;
        stat.st_ino = found.stx_ino;
        stat.st_nlink = found.stx_nlink as _;
        stat.st_mode = found.stx_mode.into();
        stat.st_uid = found.stx_uid;
        stat.st_gid = found.stx_gid;
        stat.st_rdev = rustix::fs::makedev(found.stx_rdev_major, found.stx_rdev_minor) as _;
        stat.st_size = found.stx_size as _;
        stat.st_blksize = found.stx_blksize as _;
        stat.st_blocks = found.stx_blocks as _;
        stat.st_atime = found.stx_atime.tv_sec;
        stat.st_atime_nsec = found.stx_atime.tv_nsec.into();
        stat.st_mtime = found.stx_mtime.tv_sec;
        stat.st_mtime_nsec = found.stx_mtime.tv_nsec.into();
        stat.st_ctime = found.stx_ctime.tv_sec;
        stat.st_ctime_nsec = found.stx_ctime.tv_nsec.into();
        let has_birth = found.stx_mask & StatxFlags::BTIME.bits() != 0;
        let born = &found.stx_btime;
        Ok((stat, if has_birth { generation(born.tv_sec, born.tv_nsec) } else { 0 }))
    }

    /// The inode of a backing stat.
    ///
    /// # Errors
    /// [`FsError::Unsupported`] for what lies on another filesystem than the vault.
    pub fn inode(&self, stat: &Stat) -> Result<Inode, FsError> {
        if stat.st_dev != self.root_stat.st_dev {
            return Err(FsError::Unsupported);
        }
        Ok(self.numbers.of_backing(stat.st_ino))
    }

    /// The stat of the file that was found at `at_path` and is open as `fd`, if it is `inode`. The
    /// number alone does not say so: the next file that is made may get it.
    ///
    /// # Errors
    /// [`FsError::Stale`] where it is another; [`FsError::Backing`] with the error of statx(2).
    pub fn stat_of(
        &self,
        inode: Inode,
        at_path: &AtPath,
        fd: BorrowedFd<'_>,
    ) -> Result<Stat, FsError> {
        let (stat, born) = self.stat_at(fd, OsStr::new(""), AtFlags::EMPTY_PATH)?;
        let is_born = !self.keeps_births || at_path.may_be(born);
        let is_it = self.inode(&stat)? == inode && is_born;
        is_it.then_some(stat).ok_or(FsError::Stale)
    }

    /// The mount's number for a backing inode number.
    pub fn number(&self, backing: u64) -> Inode {
        self.numbers.of_backing(backing)
    }

    /// The path of the root.
    pub fn root(&self) -> AtPath {
        AtPath::new(Arc::clone(&self.root), OsStr::new("."))
    }

    /// The directory `inode`, open for the calls that take a directory descriptor. It is found by the
    /// names of the directories above, of which one may move meanwhile: [`Moves::follow`].
    ///
    /// [`Moves::follow`]: super::moves::Moves::follow
    ///
    /// # Errors
    /// [`FsError::Stale`] where no place of it is known, [`FsError::NotFound`] where it has none any
    /// more; [`FsError::Backing`] with the error of openat(2).
    pub fn dir(&self, nodes: &Nodes, inode: Inode) -> Result<Arc<OwnedFd>, FsError> {
        // Up to the nearest directory that is open, and down again from there.
        let mut below = Vec::new();
        let mut at = inode;
        let mut cycle = CycleDetector::default();
        let mut dir = loop {
            if let Some(dir) = self.open_dir(at) {
                break dir;
            }
            match nodes.locate(at) {
                Location::Linked(_) if cycle.is_cycle(at) => return Err(FsError::Stale),
                Location::Linked(Link { parent, name }) => {
                    below.push((at, name));
                    at = parent;
                }
                Location::Pinned(pin) => break pin.descriptor().map_err(backing)?,
                Location::Unlinked => return Err(FsError::NotFound),
                Location::Unknown => return Err(FsError::Stale),
            }
        };
        let levels = below.len();
        for (left, (inode, name)) in below.into_iter().enumerate().rev() {
            dir = Arc::new(open_dir(dir.as_fd(), &name)?);
            if is_kept(left, levels) {
                if self.inode(&rustix::fs::fstat(&dir)?)? != inode {
                    return Err(FsError::Stale);
                }
                self.keep(nodes, inode, &dir);
            }
        }
        Ok(dir)
    }

    /// A directory that is open already.
    pub fn open_dir(&self, inode: Inode) -> Option<Arc<OwnedFd>> {
        match inode {
            Inode::ROOT => Some(Arc::clone(&self.root)),
            inode => self.dirs.get(&inode).map(|dir| Arc::clone(&dir)),
        }
    }

    /// Closes all directories that can be opened again.
    pub fn close_dirs(&self) {
        self.dirs.clear();
    }

    fn keep(&self, nodes: &Nodes, inode: Inode, dir: &Arc<OwnedFd>) {
        if !is_outside_reserve(dir) {
            return;
        }
        if self.dirs.len() >= self.max_dirs {
            let mut stays = false;
            self.dirs.retain(|_, _| {
                stays = !stays;
                stays
            });
        }
        let entry = self.dirs.entry(inode);
        // While the entry is locked: a removal meanwhile either shows here, or closes it later.
        if nodes.with_link(inode, |_| ()).is_some() {
            entry.insert(Arc::clone(dir));
        }
    }

    /// Closes a directory that was removed. Its node has no name any more.
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
    // A rename meanwhile could close one, too, unless the caller holds `ancestry`.
    let mut cycle = CycleDetector::default();
    while at != Inode::ROOT {
        let above = if cycle.is_cycle(at) {
            None
        } else {
            nodes.with_link(at, |link| {
                put(&open(&link.name));
                link.parent
            })
        };
        let Some(parent) = above else {
            put(OsStr::new(&format!("(inode {})", at.0)));
            break;
        };
        at = parent;
    }
    backwards.reverse();
    OsString::from_vec(backwards).into()
}

/// Whether a directory that was opened on the way to one `left` levels below is kept open. The last
/// ones are, since the next call is likely to be there, and some at even distances above, so that a
/// walk up a deep chain goes on from one of those and not from the root.
pub fn is_kept(left: usize, levels: usize) -> bool {
    const LAST: usize = 64;
    const ABOVE: usize = 64;
    left < LAST || left.is_multiple_of((levels / ABOVE).max(LAST))
}

/// Tells two files of one inode number apart, by the time of their birth: the same for as long as a
/// file lives, in every mount, and another for the next file of the number unless both were made
/// within one tick of the clock. The kernel keeps 32 bits (`i_generation`).
fn generation(seconds: i64, nanoseconds: u32) -> u32 {
    let born = (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanoseconds.into());
    // Fibonacci hashing (Knuth, TAOCP 3, 6.4): the upper half depends on all bits.
    (born.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

/// linux/magic.h: there a file has another birth, and the same number, once it is written to.
const OVERLAYFS: u64 = 0x794c_7630;

/// `error` as one of the backing filesystem.
pub fn backing(error: std::io::Error) -> FsError {
    Errno::from_io_error(&error).unwrap_or(Errno::IO).into()
}

fn open_dir(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, FsError> {
    Ok(sys::open_directory_at(dir, name, OFlags::PATH)?)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{create_dir, rename};

    use crate::fs::tests::new_fs;
    use crate::fs::{FsError, Inode, Subject};

    #[test]
    fn a_circle_of_directories_is_an_error() {
        let (vault, fs) = new_fs();
        let subject = Subject::process(0, 0, 1);
        let mkdir = |parent, name: &str| {
            fs.mkdir(parent, OsStr::new(name), 0o700, &subject).unwrap().attr.inode
        };
        let a = mkdir(Inode::ROOT, "a");
        let b = mkdir(a, "b");
        mkdir(b, "to open b");
        let path = |name: &str| vault.path().join(name);
        rename(path("a/b"), path("b")).unwrap();
        rename(path("a"), path("b/a")).unwrap();
        create_dir(path("b/a/b")).unwrap();
        // b is known as a/b still, and a as b/a from here on.
        fs.lookup(b, OsStr::new("a")).unwrap();
        assert!(matches!(fs.key_of_dir(b), Err(FsError::Stale)));
        assert!(fs.path_of(b).to_string_lossy().starts_with("(inode "));
        fs.resolver.close_dirs();
        assert!(matches!(fs.dir(b), Err(FsError::Stale)));
    }
}
