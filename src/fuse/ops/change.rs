//! Changes of names and attributes, which may wait for the vault's disk.
//!
//! A caller that is killed meanwhile gets EINTR at once. The change is made all the same: an interrupted
//! request may or may not have happened. Afterwards the kernel is told to drop what it caches of the
//! state before.

use std::ffi::OsStr;
use std::sync::Arc;

use fuser::INodeNo;

use crate::fs::{Fs, FsError, Inode};
use crate::fuse::caller_watch::{ErrorReply, PendingReply};
use crate::fuse::connection::{Connection, RequestGuard};
use crate::fuse::dispatch::Adapter;

/// What a request changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Changed<'a, const NAMES: usize> {
    /// The thread that makes the request.
    pub(super) caller: u32,
    /// Names, each in its directory.
    pub(super) names: [(Inode, &'a OsStr); NAMES],
    /// The attributes of an inode that the kernel knows.
    pub(super) inode: Option<Inode>,
}

impl Adapter {
    /// Changes names or attributes by `work`, and replies by `answer`. Where the reply was given already,
    /// `undo` takes back what the kernel would have learned from it, and returns the other inode whose
    /// attributes have changed.
    pub(super) fn change<const NAMES: usize, R: ErrorReply, T: Send + 'static>(
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
        let reply = PendingReply::new(reply);
        self.connection.callers.watch(caller, &reply);
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
            // To drop a name the kernel waits for requests about its directory.
            slow.submit(move || {
                let other = done.ok().and_then(|done| undo(&fs, done));
                for (dir, name) in &names {
                    forget_name(&connection, *dir, name);
                }
                let inodes = inode.into_iter().chain(other);
                inodes.for_each(|inode| connection.invalidate_attributes(inode));
            });
        };
        if guard.few_threads_left() {
            self.connection.changes.submit(change);
        } else {
            change();
        }
    }
}

/// Drops a name and the attributes of its directory from the kernel's cache.
fn forget_name(connection: &Connection, dir: Inode, name: &OsStr) {
    let Some(notifier) = connection.notifier() else { return };
    if let Err(error) = notifier.inval_entry(INodeNo(dir.0), name) {
        log::debug!("the kernel keeps a name in inode {}: {error}", dir.0);
    }
}
