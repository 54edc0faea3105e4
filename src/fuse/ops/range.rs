//! Ranges of files: copy_file_range(2) and fallocate(2).

use std::sync::Arc;

use fuser::{Errno, INodeNo, ReplyEmpty, ReplyWrite};

use super::pending_copy::PendingCopy;
use crate::fs::{Allocate, FsError, Handle, Inode, Origin, Subject};
use crate::fuse::connection::Connection;
use crate::fuse::dispatch::Adapter;
use crate::fuse::reply::reply_empty;

/// The most that one copy_file_range(2) copies. Its caller holds the target's lock meanwhile, and asks
/// again for the rest.
const MAX_COPY: u64 = 16 * 1024 * 1024;
/// How often a range is emptied at most while pages of it are read meanwhile.
const MAX_ROUNDS: u32 = 4;

impl Adapter {
    /// Copies a part of the range, and stops when the caller is killed.
    ///
    /// After a copy the kernel drops the target's pages, the whole of the first and the last too, and
    /// with them what was stored through a mapping meanwhile. So where another open file may map the
    /// target, the copy is refused, and the kernel copies through its cache.
    pub(in crate::fuse) fn copy(
        &self,
        from: (Inode, u64),
        to: (Inode, u64),
        len: u64,
        caller: Subject,
        reply: ReplyWrite,
    ) {
        if self.writers.are_several(to.0) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let len = len.min(MAX_COPY);
        let copying = PendingCopy::new(reply);
        self.connection.callers.watch(caller.pid, &copying);
        self.hand_on(move |fs| {
            if !copying.is_answered() {
                copying.end(fs.copy(from, to, len, &caller, &*copying));
            }
        });
    }

    /// Reserves, zeroes or punches a range.
    pub(in crate::fuse) fn allocate(
        &self,
        (inode, handle): (Inode, Handle),
        (offset, len): (u64, u64),
        how: Allocate,
        caller: Subject,
        reply: ReplyEmpty,
    ) {
        let connection = Arc::clone(&self.connection);
        self.hand_on(move |fs| {
            let may = fs.may_still_write(inode, handle, Origin::Program);
            let zeroes = !matches!(how, Allocate::Extend | Allocate::KeepSize);
            let allocate = || fs.allocate(inode, offset, len, how, &caller);
            let allocated = may.and_then(|()| {
                if zeroes {
                    without_pages(&connection, inode, (offset, len), allocate)
                } else {
                    allocate()
                }
            });
            reply_empty(reply, allocated);
        });
    }
}

/// Empties a range of which the kernel keeps no pages. It has written them back before the request, but
/// a store through a mapping may have changed one since. Written back after the range is emptied, that
/// page would bring old bytes back. A page that was read while the range was emptied may hold such bytes
/// too: then the range is emptied again.
fn without_pages(
    connection: &Connection,
    inode: Inode,
    (offset, len): (u64, u64),
    empty: impl Fn() -> Result<(), FsError>,
) -> Result<(), FsError> {
    let Some(notifier) = connection.notifier() else { return empty() };
    for _ in 0..MAX_ROUNDS {
        let reads = connection.counters().reads();
        if let Err(error) = notifier.inval_inode(INodeNo(inode.0), offset as i64, len as i64) {
            log::debug!("the kernel keeps pages of a range that is emptied: {error}");
        }
        empty()?;
        if connection.counters().reads() == reads {
            break;
        }
    }
    Ok(())
}
