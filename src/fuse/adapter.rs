//! One method for each operation: decode, call, reply.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use fuser::{
    AccessFlags, BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags,
    Generation, INodeNo, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl,
    ReplyLseek, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::counters::Operation;
use super::dispatch::Adapter;
use super::ops::read::ReadRequest;
use super::ops::seek::SeekTarget;
use super::ops::write::WriteRequest;
use super::reply::{
    TTL, refuse, reply_empty, reply_entry, reply_statfs, reply_target, reply_xattr,
};
use super::{convert, handshake};
use crate::fs::{Change, Fs, FsError, Origin};

impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        handshake::negotiate(config, self.settings.writeback);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _guard = self.connection.begin(Operation::lookup, request);
        match self.fs.lookup(convert::inode(parent), name) {
            Err(FsError::NotFound) => reply.entry(&TTL, &convert::nothing(), Generation(0)),
            entry => reply_entry(reply, entry),
        }
    }

    /// Without a `RequestGuard`: `fuser` calls this for each entry of a
    /// FUSE_BATCH_FORGET, and a thread that stood by between two of them would delay the rest.
    fn forget(&self, _: &Request, inode: INodeNo, lookups: u64) {
        self.connection.counters().count(Operation::forget);
        self.fs.forget(convert::inode(inode), lookups);
    }

    /// The request has a handle when a program is about to write through it, or reads at the file's
    /// end.
    fn getattr(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let _guard = self.connection.begin(Operation::getattr, request);
        let handle = handle.map(convert::handle);
        self.get_attributes(convert::inode(inode), handle, convert::caller(request), reply);
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let guard = self.connection.begin(Operation::setattr, request);
        let change = Change {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(convert::time),
            mtime: mtime.map(convert::time),
            ctime,
            through: handle.map(convert::handle),
        };
        self.set_attributes(&guard, reply, request, inode, &change);
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let _guard = self.connection.begin(Operation::readlink, request);
        reply_target(reply, self.fs.readlink(convert::inode(inode)));
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let guard = self.connection.begin(Operation::mknod, request);
        self.make(&guard, reply, request, (parent, name), move |fs, parent, name, caller| {
            fs.mknod(parent, name, mode, rdev, caller)
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let guard = self.connection.begin(Operation::mkdir, request);
        self.make(&guard, reply, request, (parent, name), move |fs, parent, name, caller| {
            fs.mkdir(parent, name, mode, caller)
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let guard = self.connection.begin(Operation::unlink, request);
        self.remove(&guard, reply, request, (parent, name), Fs::unlink);
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let guard = self.connection.begin(Operation::rmdir, request);
        self.remove(&guard, reply, request, (parent, name), Fs::rmdir);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let guard = self.connection.begin(Operation::symlink, request);
        let target = target.as_os_str().to_owned();
        self.make(&guard, reply, request, (parent, name), move |fs, parent, name, caller| {
            fs.symlink(parent, name, &target, caller)
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let guard = self.connection.begin(Operation::rename, request);
        let flags = rustix::fs::RenameFlags::from_bits_retain(flags.bits());
        let names = [(parent, name), (new_parent, new_name)];
        self.move_name(&guard, reply, request, names, flags);
    }

    fn link(
        &self,
        request: &Request,
        inode: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let guard = self.connection.begin(Operation::link, request);
        let inode = convert::inode(inode);
        self.make(&guard, reply, request, (parent, name), move |fs, parent, name, caller| {
            fs.link(inode, parent, name, caller)
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let guard = self.connection.begin(Operation::open, request);
        let (inode, caller) = (convert::inode(inode), convert::caller(request));
        let mode = convert::open_mode(flags);
        let writers = Arc::clone(&self.writers);
        self.run(&guard, move |fs| match fs.open(inode, mode, &caller) {
            Ok(handle) => {
                writers.opened(inode, mode.write);
                reply.opened(FileHandle(handle.0), FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(refuse(&error)),
        });
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let guard =
            self.connection.begin_for(Operation::read, convert::reader(request, size), request);
        let read = ReadRequest {
            inode: convert::inode(inode),
            handle: convert::handle(handle),
            offset,
            size: size as usize,
            moves_atime: convert::moves_atime(flags),
        };
        self.run(&guard, move |fs| read.run(fs, reply));
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let caller = convert::writer(request, write_flags);
        let guard = self.connection.begin_for(Operation::write, caller, request);
        // The kernel syncs after what it wrote back from its cache; the rest is up to us.
        let cached = if self.settings.writeback { Origin::Cache } else { Origin::Mapping };
        let origin = match flags.0 & libc::O_DSYNC {
            _ if write_flags.contains(WriteFlags::FUSE_WRITE_CACHE) => cached,
            0 => Origin::Program,
            _ => Origin::ProgramSync,
        };
        let write = WriteRequest {
            inode: convert::inode(inode),
            handle: convert::handle(handle),
            offset,
            origin,
            kills_privilege: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
            caller: convert::caller(request),
        };
        self.write_from(&guard, write, data, reply);
    }

    /// Answered once with ENOSYS: the kernel still writes back at close, and sends no more of these.
    fn flush(&self, request: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let _guard = self.connection.begin(Operation::flush, request);
        reply.error(Errno::ENOSYS);
    }

    fn release(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        flags: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let guard = self.connection.begin(Operation::release, request);
        let (inode, handle) = (convert::inode(inode), convert::handle(handle));
        self.released(inode, convert::open_mode(flags).write);
        self.run(&guard, move |fs| {
            fs.forget_opener(handle);
            reply_empty(reply, fs.release(inode));
        });
    }

    fn fsync(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let _guard = self.connection.begin(Operation::fsync, request);
        let (inode, handle) = (convert::inode(inode), convert::handle(handle));
        self.sync(request.pid(), reply, move |fs| fs.fsync(inode, handle, !datasync));
    }

    /// Answered once with ENOSYS: the kernel then lists without opening.
    fn opendir(&self, request: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let _guard = self.connection.begin(Operation::opendir, request);
        reply.error(Errno::ENOSYS);
    }

    fn readdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let _guard = self.connection.begin(Operation::readdir, request);
        self.list(convert::inode(inode), offset, reply);
    }

    fn readdirplus(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let _guard = self.connection.begin(Operation::readdirplus, request);
        self.list_with_attributes(convert::inode(inode), offset, reply);
    }

    fn fsyncdir(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let _guard = self.connection.begin(Operation::fsyncdir, request);
        let inode = convert::inode(inode);
        self.sync(request.pid(), reply, move |fs| fs.fsync_dir(inode));
    }

    fn statfs(&self, request: &Request, _: INodeNo, reply: ReplyStatfs) {
        let guard = self.connection.begin(Operation::statfs, request);
        self.run(&guard, move |fs| reply_statfs(reply, fs.statfs()));
    }

    fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let guard = self.connection.begin(Operation::setxattr, request);
        let flags = rustix::fs::XattrFlags::from_bits_retain(flags as u32);
        let (name, value) = (name.to_owned(), value.to_vec());
        self.set_xattr(&guard, reply, request, inode, move |fs, inode| {
            fs.setxattr(inode, &name, &value, flags)
        });
    }

    fn getxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let _guard = self.connection.begin(Operation::getxattr, request);
        reply_xattr(reply, size, self.fs.getxattr(convert::inode(inode), name));
    }

    fn listxattr(&self, request: &Request, inode: INodeNo, size: u32, reply: ReplyXattr) {
        let _guard = self.connection.begin(Operation::listxattr, request);
        let names = self.fs.listxattr(convert::inode(inode), &convert::caller(request));
        reply_xattr(reply, size, names);
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let guard = self.connection.begin(Operation::removexattr, request);
        let name = name.to_owned();
        self.set_xattr(&guard, reply, request, inode, move |fs, inode| {
            fs.removexattr(inode, &name)
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let guard = self.connection.begin(Operation::create, request);
        self.make_open(&guard, reply, request, (parent, name), mode, flags);
    }

    /// Sent only where root alone may enter and the kernel checks nothing itself.
    fn access(&self, request: &Request, inode: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let _guard = self.connection.begin(Operation::access, request);
        let execute = mask.contains(AccessFlags::X_OK);
        reply_empty(reply, self.fs.access_by_root(convert::inode(inode), execute));
    }

    fn ioctl(
        &self,
        request: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        let _guard = self.connection.begin(Operation::ioctl, request);
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        request: &Request,
        inode: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _guard = self.connection.begin(Operation::fallocate, request);
        let Some(how) = convert::allocation(mode) else { return reply.error(Errno::EOPNOTSUPP) };
        let file = (convert::inode(inode), convert::handle(handle));
        self.allocate(file, (offset, length), how, convert::caller(request), reply);
    }

    fn lseek(
        &self,
        request: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _guard = self.connection.begin(Operation::lseek, request);
        let sought = match whence {
            libc::SEEK_DATA => SeekTarget::Data,
            libc::SEEK_HOLE => SeekTarget::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        self.seek(request.pid(), convert::inode(inode), offset, sought, reply);
    }

    fn copy_file_range(
        &self,
        request: &Request,
        from: INodeNo,
        _: FileHandle,
        from_offset: u64,
        to: INodeNo,
        _: FileHandle,
        to_offset: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _guard = self.connection.begin(Operation::copy_file_range, request);
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (from, to) = ((convert::inode(from), from_offset), (convert::inode(to), to_offset));
        self.copy(from, to, len, convert::caller(request), reply);
    }
}
