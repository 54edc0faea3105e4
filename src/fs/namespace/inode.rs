//! Inode numbers and attributes, as the mount shows them.

use std::time::{Duration, SystemTime};

use rustix::fs::{FileType, Stat};

/// The number of an inode in the mount: 1 is the root, and any other that of the backing inode,
/// so that it stays the same for as long as the file lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode(pub u64);

impl Inode {
    /// The mount's root.
    pub const ROOT: Self = Self(1);
}

/// Translates between the backing directory's inode numbers and the mount's. Only two change
/// places: the vault's directory and number 1.
#[derive(Debug, Clone, Copy)]
pub struct InodeNumbers {
    root: u64,
}

impl InodeNumbers {
    /// For a vault whose directory has the backing inode `root`.
    pub fn new(root: u64) -> Self {
        Self { root }
    }

    /// The mount's number for a backing inode.
    pub fn of_backing(self, ino: u64) -> Inode {
        match ino {
            _ if ino == self.root => Inode::ROOT,
            1 => Inode(self.root),
            _ => Inode(ino),
        }
    }
}

/// What stat shows.
#[derive(Debug, Clone, Copy)]
pub struct Attr {
    /// The inode.
    pub inode: Inode,
    /// Plaintext bytes of a file; what the backing filesystem says of anything else.
    pub size: u64,
    /// Space in the vault in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: SystemTime,
    /// Last change of the content.
    pub mtime: SystemTime,
    /// Last change of anything.
    pub ctime: SystemTime,
    /// What it is.
    pub kind: FileType,
    /// Permission bits with suid, sgid and sticky.
    pub mode: u32,
    /// Names it has.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device.
    pub rdev: u32,
}

impl Attr {
    /// From a backing stat and the plaintext size.
    pub fn new(inode: Inode, stat: &Stat, size: u64) -> Self {
        Self {
            inode,
            size,
            blocks: stat.st_blocks as u64,
            atime: time(stat.st_atime, stat.st_atime_nsec),
            mtime: modified(stat),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            kind: FileType::from_raw_mode(stat.st_mode),
            mode: stat.st_mode & 0o7777,
            nlink: stat.st_nlink as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
            rdev: stat.st_rdev as u32,
        }
    }
}

/// The last change of the content.
pub fn modified(stat: &Stat) -> SystemTime {
    time(stat.st_mtime, stat.st_mtime_nsec)
}

fn time(seconds: i64, nanoseconds: u64) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base =
        if seconds < 0 { SystemTime::UNIX_EPOCH - whole } else { SystemTime::UNIX_EPOCH + whole };
    base + Duration::from_nanos(nanoseconds)
}
