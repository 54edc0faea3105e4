//! Requests that change names and attributes, which may wait for the vault's disk.
//!
//! A caller that is killed meanwhile is told so at once. The change is made all the same: of a request
//! that was interrupted the kernel knows that it may or may not have happened. Afterwards it is told
//! to ask again for what it keeps of the time before.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::{INodeNo, OpenFlags, ReplyAttr, ReplyCreate, ReplyEmpty, ReplyEntry, Request};
use rustix::fs::RenameFlags;

use crate::fs::{Caller, Change, Entry, Fs, FsError, Handle, Inode};
use crate::fuse::connection::{Connection, RequestGuard};
use crate::fuse::convert;
use crate::fuse::dispatch::Adapter;
use crate::fuse::killed::{Refuse, Unanswered};
use crate::fuse::reply::{TTL, refuse, reply_attr, reply_created, reply_empty, reply_entry};

/// What a request changes.
#[derive(Debug, Clone, Copy)]
struct Changed<'a, const NAMES: usize> {
    /// The thread that asks.
    caller: u32,
    /// Names, each in its directory.
    names: [(Inode, &'a OsStr); NAMES],
    /// The attributes of an inode that the kernel knows.
    inode: Option<Inode>,
}

impl Adapter {
    /// Makes a name.
    pub(in crate::fuse) fn make(
        &self,
        guard: &RequestGuard<'_>,
        reply: ReplyEntry,
        request: &Request,
        (parent, name): (INodeNo, &OsStr),
        make: impl FnOnce(&Fs, Inode, &OsStr, &Caller) -> Result<Entry, FsError> + Send + 'static,
    ) {
        let (parent, caller) = (convert::inode(parent), convert::caller(request));
        let changed = Changed { caller: caller.pid, names: [(parent, name)], inode: None };
        let make = move |fs: &Fs, [name]: [&OsStr; 1]| make(fs, parent, name, &caller);
        let undo = |fs: &Fs, entry| forgotten(fs, &entry);
        self.change(guard, reply, changed, make, reply_entry, undo);
    }

    /// Makes a file that is open then.
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
        let how = (convert::wanted(OpenFlags(flags)), flags & libc::O_EXCL != 0);
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

    /// Changes attributes, which may be a length.
    pub(in crate::fuse) fn set_attributes(
        &self,
        guard: &RequestGuard<'_>,
        reply: ReplyAttr,
        request: &Request,
        inode: INodeNo,
        change: &Change,
    ) {
        let (inode, caller, change) = (convert::inode(inode), convert::caller(request), *change);
        if change.size.is_some() {
            return self.resize(inode, change, caller, reply);
        }
        let changed = Changed { caller: caller.pid, names: [], inode: Some(inode) };
        let set = move |fs: &Fs, []: [&OsStr; 0]| fs.setattr(inode, &change, &caller);
        let answer = |reply, attr| reply_attr(reply, TTL, attr);
        self.change(guard, reply, changed, set, answer, |_, _| None);
    }

    /// Changes names or attributes by `work`, and answers. Where nobody waits for the answer any more,
    /// `undo` takes back what the kernel would have learned from it, and tells which other inode's
    /// attributes have changed.
    fn change<const NAMES: usize, R: Refuse, T: Send + 'static>(
        &self,
        guard: &RequestGuard<'_>,
        reply: R,
        changed: Changed<'_, NAMES>,
        work: impl FnOnce(&Fs, [&OsStr; NAMES]) -> Result<T, FsError> + Send + 'static,
        answer: impl FnOnce(R, Result<T, FsError>) + Send + 'static,
        undo: impl FnOnce(&Fs, T) -> Option<Inode> + Send + 'static,
    ) {
        let Changed { caller, names, inode } = changed;
        if self.in_memory {
            return answer(reply, work(&self.fs, names.map(|(_, name)| name)));
        }
        let names = names.map(|(dir, name)| (dir, name.to_owned()));
        let reply = Unanswered::new(reply);
        self.connection.callers.note(caller, &reply);
        let (connection, fs) = (Arc::clone(&self.connection), Arc::clone(&self.fs));
        let change = move || {
            if reply.is_answered() {
                return;
            }
            let done = work(&fs, names.each_ref().map(|(_, name)| name.as_os_str()));
            if let Some(reply) = reply.take() {
                return answer(reply, done);
            }
            let slow = Arc::clone(&connection.slow);
            // To take a name away the kernel waits for requests about its directory.
            slow.submit(move || {
                let other = done.ok().and_then(|done| undo(&fs, done));
                for (dir, name) in &names {
                    forget_name(&connection, *dir, name);
                }
                let inodes = inode.into_iter().chain(other);
                inodes.for_each(|inode| connection.invalidate_attributes(inode));
            });
        };
        match guard.few_threads_left() {
            true => self.connection.changes.submit(change),
            false => change(),
        }
    }
}

/// The kernel does not know of an entry: it was told of none.
fn forgotten(fs: &Fs, entry: &Entry) -> Option<Inode> {
    fs.forget(entry.attr.inode, 1);
    Some(entry.attr.inode)
}

/// Has the kernel ask for a name when somebody wants it next, and for its directory's attributes.
fn forget_name(connection: &Connection, dir: Inode, name: &OsStr) {
    let Some(notifier) = connection.notifier() else { return };
    if let Err(error) = notifier.inval_entry(INodeNo(dir.0), name) {
        log::debug!("the kernel keeps a name in inode {}: {error}", dir.0);
    }
}
