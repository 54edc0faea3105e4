//! The choke point: an inode, or a directory and a name, becomes a directory descriptor and a
//! stored name; an inode without a known name becomes the descriptor that holds it. Every
//! path-based call goes through here.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use dashmap::DashMap;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, StatxFlags};
use rustix::io::Errno;

use super::descriptors::is_spare;
use super::inode::InodeNumbers;
use super::nodes::{CircleCheck, Link, Location, Nodes};
use super::{FsError, Inode};
use crate::store::{Names, Vault};
use crate::sys;

/// A stored name in an open directory, or a descriptor of the inode itself.
#[derive(Debug, Clone)]
pub struct Place {
    dir: Arc<OwnedFd>,
    /// Empty where `dir` is the inode itself.
    name: Box<OsStr>,
    /// The [`generation`] of what is to be found there, where that is known.
    born: Option<u32>,
}

impl Place {
    /// A stored name in an open directory.
    pub fn new(dir: Arc<OwnedFd>, stored: &OsStr) -> Self {
        Self { dir, name: OsString::from(stored).into_boxed_os_str(), born: None }
    }

    /// [`Place::new`] of a name that is the caller's, and of the [`generation`] of what has it.
    pub fn of_name(dir: Arc<OwnedFd>, name: Box<OsStr>, born: u32) -> Self {
        Self { dir, name, born: Some(born) }
    }

    /// What `fd` is open on, of any kind; `O_PATH` is enough.
    pub fn itself(fd: Arc<OwnedFd>) -> Self {
        Self { dir: fd, name: Box::default(), born: None }
    }

    /// Whether [`Place::dir`] is the inode itself, and [`Place::name`] empty. Calls with a directory
    /// descriptor take that with `AT_EMPTY_PATH`.
    pub fn is_itself(&self) -> bool {
        self.name.is_empty()
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
    /// the place, not what a symbolic link there points to: when used with an `l…` call, or for
    /// [`Place::is_itself`] with one that follows links.
    pub fn proc_path(&self) -> PathBuf {
        let dir = PathBuf::from(sys::descriptor_path(&self.dir));
        if self.is_itself() { dir } else { dir.join(&*self.name) }
    }

    /// `AT_SYMLINK_NOFOLLOW`, and `AT_EMPTY_PATH` where that is needed.
    pub fn at_flags(&self) -> AtFlags {
        match self.is_itself() {
            true => AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH,
            false => AtFlags::SYMLINK_NOFOLLOW,
        }
    }

    /// What lies there.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.dir, &*self.name, self.at_flags())
    }

    /// Opens what lies there, with `O_CLOEXEC`; never what a symbolic link there points to.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn open(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        if self.is_itself() {
            return sys::reopen(&self.dir, flags);
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(&self.dir, &*self.name, flags, Mode::empty())
    }

    /// Sets the mode of [`Place::is_itself`], which is no symbolic link.
    ///
    /// # Errors
    /// EINVAL for a name, which might lead elsewhere; what the backing filesystem says.
    pub fn chmod(&self, mode: Mode) -> rustix::io::Result<()> {
        rustix::fs::chmod(self.own_path()?, mode)
    }

    /// Gives [`Place::is_itself`] the name `to` as well.
    ///
    /// # Errors
    /// As [`Place::chmod`].
    pub fn link(&self, to: &Place) -> rustix::io::Result<()> {
        let path = self.own_path()?;
        rustix::fs::linkat(CWD, &path, &to.dir, &*to.name, AtFlags::SYMLINK_FOLLOW)
    }

    /// A path for a call that follows links.
    fn own_path(&self) -> rustix::io::Result<PathBuf> {
        if self.is_itself() { Ok(self.proc_path()) } else { Err(Errno::INVAL) }
    }
}

/// Finds places, and keeps the directories that it opened for a while.
#[derive(Debug)]
pub struct Places {
    root: Arc<OwnedFd>,
    numbers: InodeNumbers,
    /// What stat said of the vault's directory.
    root_stat: Stat,
    /// Whether a file keeps the time of its birth.
    keeps_births: bool,
    names: Names,
    /// Directories lately used. Where there are too many every second one is closed: of a deep
    /// chain of them some stay at every depth, and what is missing is near to one that stays.
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
        let filesystem = rustix::fs::fstatfs(&root)?.f_type as u64;
        Ok(Self {
            root: Arc::new(root),
            numbers: InodeNumbers::new(stat.st_ino),
            root_stat: stat,
            keeps_births: filesystem != OVERLAYFS,
            names: vault.names(),
            dirs: DashMap::new(),
            most_dirs,
        })
    }

    /// Whether the place is a name in the mount's root.
    pub fn is_in_root(&self, place: &Place) -> bool {
        Arc::ptr_eq(&self.root, &place.dir)
    }

    /// How names are stored.
    pub fn names(&self) -> Names {
        self.names
    }

    /// What lies at a place, and the [`generation`] of its inode number.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn stat(&self, place: &Place) -> rustix::io::Result<(Stat, u32)> {
        self.stat_at(place.dir(), place.name(), place.at_flags())
    }

    /// [`Places::stat`] by the arguments of statx(2).
    ///
    /// # Errors
    /// What the backing filesystem says.
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

    /// What stat says of the file that was found at `place` and is open as `fd`, if it is `inode`. The
    /// number alone does not say so: the next file that is made may get it.
    ///
    /// # Errors
    /// [`FsError::Stale`] where it is another; what the backing filesystem says.
    pub fn stat_of(
        &self,
        inode: Inode,
        place: &Place,
        fd: BorrowedFd<'_>,
    ) -> Result<Stat, FsError> {
        let (stat, born) = self.stat_at(fd, OsStr::new(""), AtFlags::EMPTY_PATH)?;
        let is_born = !self.keeps_births || place.born.is_none_or(|known| known == born);
        let is_it = self.inode(&stat)? == inode && is_born;
        is_it.then_some(stat).ok_or(FsError::Stale)
    }

    /// The mount's number for a backing inode number.
    pub fn number(&self, backing: u64) -> Inode {
        self.numbers.of_backing(backing)
    }

    /// The place of the root.
    pub fn root(&self) -> Place {
        Place::new(Arc::clone(&self.root), OsStr::new("."))
    }

    /// The directory `inode`, open for the calls that take a directory descriptor. It is found by the
    /// names of the directories above, of which one may move meanwhile: [`Moves::follow`].
    ///
    /// [`Moves::follow`]: super::moves::Moves::follow
    ///
    /// # Errors
    /// [`FsError::Stale`] where no place of it is known, [`FsError::NotFound`] where it has none any
    /// more; what the backing filesystem says.
    pub fn dir(&self, nodes: &Nodes, inode: Inode) -> Result<Arc<OwnedFd>, FsError> {
        // Up to the nearest directory that is open, and down again from there.
        let mut below = Vec::new();
        let mut at = inode;
        let mut circle = CircleCheck::default();
        let mut dir = loop {
            if let Some(dir) = self.open_dir(at) {
                break dir;
            }
            match nodes.locate(at) {
                Location::At(_) if circle.is_back(at) => return Err(FsError::Stale),
                Location::At(Link { parent, name }) => {
                    below.push((at, name));
                    at = parent;
                }
                Location::Pinned(pin) => break pin.descriptor().map_err(backing)?,
                Location::Gone => return Err(FsError::NotFound),
                Location::Nowhere => return Err(FsError::Stale),
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
        if !is_spare(dir) {
            return;
        }
        if self.dirs.len() >= self.most_dirs {
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

    /// Closes a directory that was removed, which no node says any more that it has a name.
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
    let mut circle = CircleCheck::default();
    while at != Inode::ROOT {
        let above = match circle.is_back(at) {
            true => None,
            false => nodes.with_link(at, |link| {
                put(&open(&link.name));
                link.parent
            }),
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

/// What the backing filesystem said by `error`.
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
    use crate::fs::{Caller, FsError, Inode};

    #[test]
    fn a_circle_of_directories_is_an_error() {
        let (vault, fs) = new_fs();
        let caller = Caller { uid: 0, gid: 0, pid: 1 };
        let mkdir = |parent, name: &str| {
            fs.mkdir(parent, OsStr::new(name), 0o700, &caller).unwrap().attr.inode
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
        fs.places.close_dirs();
        assert!(matches!(fs.dir(b), Err(FsError::Stale)));
    }
}
