//! Between `fuser`'s types and the file system's.

use std::time::{Duration, SystemTime};

use fuser::{
    FileAttr, FileHandle, FileType, INodeNo, OpenAccMode, OpenFlags, Request, TimeOrNow, WriteFlags,
};

use crate::fs::{Allocate, Attr, Handle, Inode, OpenMode, Subject, Time};

pub(super) fn caller(request: &Request) -> Subject {
    Subject::process(request.uid(), request.gid(), request.pid())
}

/// The thread that waits for so many bytes to be read; 0 is the kernel, which reads ahead.
pub(super) fn reader(request: &Request, size: u32) -> u32 {
    if size > 64 * 1024 { 0 } else { request.pid() }
}

/// The thread that waits for a write; 0 is the kernel, which writes back.
pub(super) fn writer(request: &Request, flags: WriteFlags) -> u32 {
    if flags.contains(WriteFlags::FUSE_WRITE_CACHE) { 0 } else { request.pid() }
}

pub(super) fn inode(number: INodeNo) -> Inode {
    Inode(number.0)
}

pub(super) fn handle(handle: FileHandle) -> Handle {
    Handle(handle.0)
}

/// The open mode of open flags. O_TRUNC arrives only in requests that create the file.
pub(super) fn open_mode(flags: OpenFlags) -> OpenMode {
    let (read, write) = match flags.acc_mode() {
        OpenAccMode::O_RDONLY => (true, false),
        OpenAccMode::O_WRONLY => (false, true),
        OpenAccMode::O_RDWR => (true, true),
    };
    OpenMode { read, write, empty: flags.0 & libc::O_TRUNC != 0 }
}

/// Whether a read through an open file with these flags changes the time of access. Through one that is open
/// for writing alone the kernel reads a page that is to be written in part.
pub(super) fn moves_atime(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_WRONLY && flags.0 & libc::O_NOATIME == 0
}

pub(super) fn time(time: TimeOrNow) -> Time {
    match time {
        TimeOrNow::Now => Time::Now,
        TimeOrNow::SpecificTime(time) => Time::At(correct(time)),
    }
}

/// The kernel counts nanoseconds up from a second that may be before 1970; `fuser` 0.18 counts
/// them down from there (time.rs, system_time_from_time).
fn correct(time: SystemTime) -> SystemTime {
    match SystemTime::UNIX_EPOCH.duration_since(time) {
        Ok(before) => time + 2 * Duration::from_nanos(before.subsec_nanos().into()),
        Err(_) => time,
    }
}

/// A kind that `fuser` does not have is shown as a regular file. To open it fails.
pub(super) fn kind(kind: rustix::fs::FileType) -> FileType {
    use rustix::fs::FileType as Kind;
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharacterDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::RegularFile | Kind::Unknown => FileType::RegularFile,
    }
}

/// The operation of a mode of fallocate(2); `None` for those that move content.
pub(super) fn allocation(mode: i32) -> Option<Allocate> {
    const PUNCH_KEEP: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
    match mode {
        0 => Some(Allocate::Extend),
        libc::FALLOC_FL_KEEP_SIZE => Some(Allocate::KeepSize),
        PUNCH_KEEP => Some(Allocate::PunchHole),
        libc::FALLOC_FL_ZERO_RANGE => Some(Allocate::Zero),
        ZERO_KEEP => Some(Allocate::ZeroKeepSize),
        _ => None,
    }
}

pub(super) fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.inode.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime,
        mtime: attr.mtime,
        ctime: attr.ctime,
        crtime: SystemTime::UNIX_EPOCH,
        kind: kind(attr.kind),
        perm: attr.mode as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: crate::format::BLOCK_LEN as u32,
        flags: 0,
    }
}

/// The reply for a name that does not exist, which the kernel may cache: inode 0.
pub(super) fn nothing() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: SystemTime::UNIX_EPOCH,
        mtime: SystemTime::UNIX_EPOCH,
        ctime: SystemTime::UNIX_EPOCH,
        crtime: SystemTime::UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

/// `.` and `..` in a listing with attributes: the kernel takes number and kind, and looks nothing
/// up. Number 0 would hide the name, so the real one is shown.
pub(super) fn dot(inode: Inode) -> FileAttr {
    FileAttr { ino: INodeNo(inode.0), kind: FileType::Directory, ..nothing() }
}
