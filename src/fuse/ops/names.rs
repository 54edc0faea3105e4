//! Names, and extended attributes.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{INodeNo, OpenFlags, ReplyCreate, ReplyEmpty, ReplyEntry, Request};
use rustix::fs::RenameFlags;

use super::change::Changed;
use crate::fs::{Entry, Fs, FsError, Handle, Inode, Subject};
use crate::fuse::connection::RequestGuard;
use crate::fuse::convert;
use crate::fuse::dispatch::Adapter;
use crate::fuse::reply::{refuse, reply_created, reply_empty, reply_entry};

impl Adapter {
    /// Makes a name.
    pub(in crate::fuse) fn make(
        &self,
        guard: &RequestGuard<'_>,
        reply: ReplyEntry,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        make: impl FnOnce(&Fs, Inode, &OsStr, &Subject) -> Result<Entry, FsError> + Send + 'static,
    ) {
        let (parent, caller) = (convert::inode(parent), convert::caller(request));
        let changed = Changed { caller: caller.pid, names: [(parent, name)], inode: None };
        let make = move |fs: &Fs, [name]: [&OsStr; 1]| make(fs, parent, name, &caller);
        let undo = |fs: &Fs, entry| forgotten(fs, &entry);
        self.change(guard, reply, changed, make, reply_entry, undo);
    }

    /// Makes a file and opens it.
    pub(in crate::fuse) fn make_open(
        &self,
        guard: &RequestGuard<'_>,
        reply: ReplyCreate,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        mode: u32,
        flags: i32,
    ) {
        let (parent, caller) = (convert::inode(parent), convert::caller(request));
        let how = (convert::open_mode(OpenFlags(flags)), flags & libc::O_EXCL != 0);
        let changed = Changed { caller: caller.pid, names: [(parent, name)], inode: None };
        let create =
            move |fs: &Fs, [name]: [&OsStr; 1]| fs.create(parent, name, mode, how, &caller);
        let writers = Arc::clone(&self.writers);
        let answer = move |reply: ReplyCreate, created: Result<(Entry, Handle), _>| match created {
            Ok((entry, handle)) => {
                writers.opened(entry.attr.inode, how.0.write);
                reply_created(reply, &entry, handle);
            }
            Err(error) => reply.error(refuse(&error)),
        };
        self.change(guard, reply, changed, create, answer, |fs, (entry, handle)| {
            fs.forget_opener(handle);
            if let Err(error) = fs.release(entry.attr.inode) {
                refuse(&error);
            }
            forgotten(fs, &entry)
        });
    }

    /// Moves a name.
    pub(in crate::fuse) fn move_name(
        &self,
        guard: &RequestGuard<'_>,
        reply: ReplyEmpty,
        request: &Request,
        names: [(INodeNo, &OsStr); 2],
        flags: RenameFlags,
    ) {
        let caller = convert::caller(request);
        let names = names.map(|(parent, name)| (convert::inode(parent), name));
        let [parent, new_parent] = names.map(|(parent, _)| parent);
        let changed = Changed { caller: caller.pid, names, inode: None };
        let rename = move |fs: &Fs, [name, new_name]: [&OsStr; 2]| {
            fs.rename(parent, name, new_parent, new_name, flags, &caller)
        };
        let answer = |reply, renamed: Result<Option<Inode>, _>| {
            reply_empty(reply, renamed.map(drop));
        };
        self.change(guard, reply, changed, rename, answer, |_, replaced| replaced);
    }

    /// Removes a name.
    pub(in crate::fuse) fn remove(
        &self,
        guard: &RequestGuard<'_>,
        reply: ReplyEmpty,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        remove: fn(&Fs, Inode, &OsStr) -> Result<Inode, FsError>,
    ) {
        let parent = convert::inode(parent);
        let changed = Changed { caller: request.pid(), names: [(parent, name)], inode: None };
        let remove = move |fs: &Fs, [name]: [&OsStr; 1]| remove(fs, parent, name);
        let answer = |reply, removed: Result<Inode, _>| reply_empty(reply, removed.map(drop));
        self.change(guard, reply, changed, remove, answer, |_, removed| Some(removed));
    }

    /// Sets or removes an extended attribute.
    pub(in crate::fuse) fn set_xattr(
        &self,
        guard: &RequestGuard<'_>,
        reply: ReplyEmpty,
        request: &Request,
        inode: INodeNo,
        set: impl FnOnce(&Fs, Inode) -> Result<(), FsError> + Send + 'static,
    ) {
        let inode = convert::inode(inode);
        let changed = Changed { caller: request.pid(), names: [], inode: Some(inode) };
        self.change(guard, reply, changed, move |fs, []| set(fs, inode), reply_empty, |_, ()| None);
    }
}

/// The kernel was not told of an entry, so it will not forget it.
fn forgotten(fs: &Fs, entry: &Entry) -> Option<Inode> {
    fs.forget(entry.attr.inode, 1);
    Some(entry.attr.inode)
}
