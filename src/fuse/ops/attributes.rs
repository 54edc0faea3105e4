//! Attributes: getattr and setattr.

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use fuser::{INodeNo, ReplyAttr, Request};

use crate::fs::{Change, Fs, FsError, Handle, Inode, Subject};
use crate::fuse::connection::RequestGuard;
use crate::fuse::convert;
use crate::fuse::dispatch::Adapter;
use crate::fuse::ops::change::Changed;
use crate::fuse::reply::{TTL, reply_attr};

impl Adapter {
    /// Replies with attributes, once the kernel keeps no more of the file than the vault. A request with a
    /// `handle` does not wait for that, since its caller holds a lock that the repair takes. It fails where
    /// a write-back was lost.
    pub(in crate::fuse) fn get_attributes(
        &self,
        inode: Inode,
        handle: Option<Handle>,
        caller: Subject,
        reply: ReplyAttr,
    ) {
        let is_pending = handle.is_none() && self.lost_writes.is_pending(inode);
        if is_pending && !self.fs.is_cut_of_lost(&caller) {
            let fs = Arc::clone(&self.fs);
            return self.lost_writes.once_repaired(inode, move || {
                reply_attr(reply, Duration::ZERO, fs.getattr(inode));
            });
        }
        let reported = handle.map_or(Ok(()), |handle| self.report_lost_write(inode, handle));
        let attr = reported.and_then(|()| self.fs.getattr(inode));
        let ttl = if self.fs.has_lost_writes(inode) { Duration::ZERO } else { TTL };
        reply_attr(reply, ttl, attr);
    }

    fn report_lost_write(&self, inode: Inode, handle: Handle) -> Result<(), FsError> {
        let reported = self.fs.tell_lost_write(inode, handle);
        if reported.is_err() {
            self.lost_writes.cut_again(&self.fs, inode);
        } else if handle.writes() {
            if self.lost_writes.refuses_writes(inode) {
                return self.fs.refuse_lost(inode);
            }
            self.lost_writes.forget(inode);
        }
        reported
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

    /// Changes attributes, a length among them. A caller that is killed waits for the reply: without it the
    /// kernel would keep the length that the file had.
    fn resize(&self, inode: Inode, change: Change, caller: Subject, reply: ReplyAttr) {
        // The cut after a lost write, which other requests may wait for. It takes no flush.
        if self.fs.is_cut_of_lost(&caller) {
            let attr = self.fs.setattr(inode, &change, &caller);
            self.lost_writes.note_cut(inode);
            // The next write(2) has to ask for the attributes.
            return reply_attr(reply, Duration::ZERO, attr);
        }
        // To empty a file takes no flush, and is done at each open that truncates.
        let is_quick = change.size == Some(0);
        if self.in_memory || is_quick {
            return reply_attr(reply, TTL, self.fs.setattr(inode, &change, &caller));
        }
        self.hand_on(move |fs| reply_attr(reply, TTL, fs.setattr(inode, &change, &caller)));
    }
}
