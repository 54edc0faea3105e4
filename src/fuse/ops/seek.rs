//! lseek(2) for data and holes.

use std::sync::Arc;

use fuser::{INodeNo, ReplyLseek};

use crate::fs::{Fs, FsError, Inode};
use crate::fuse::caller_watch::PendingReply;
use crate::fuse::connection::Connection;
use crate::fuse::dispatch::Adapter;
use crate::fuse::reply::refuse;

/// What to seek.
#[derive(Debug, Clone, Copy)]
pub enum SeekTarget {
    Data,
    Hole,
}

impl Adapter {
    /// Seeks data or a hole, also in the dirty pages of the kernel: of its writeback cache, or of a shared
    /// mapping.
    pub(in crate::fuse) fn seek(
        &self,
        caller: u32,
        inode: Inode,
        offset: u64,
        target: SeekTarget,
        reply: ReplyLseek,
    ) {
        if !self.writers.has(inode) {
            return reply_lseek(reply, find(&self.fs, inode, offset, target));
        }
        let reply = PendingReply::new(reply);
        self.connection.callers.watch(caller, &reply);
        let connection = Arc::clone(&self.connection);
        self.hand_on(move |fs| {
            if reply.is_answered() {
                return;
            }
            let found = find_written_back(&connection, fs, inode, offset, target);
            if let Some(reply) = reply.take() {
                reply_lseek(reply, found);
            }
        });
    }
}

/// Seeks where the kernel may hold dirty pages. Only those in the hole that is found can change the
/// result, so the kernel is told to drop that hole's pages, which makes it write the dirty ones, until
/// the result stays. No page of data is dropped, and read again.
fn find_written_back(
    connection: &Connection,
    fs: &Fs,
    inode: Inode,
    offset: u64,
    target: SeekTarget,
) -> Result<u64, FsError> {
    let mut found = find(fs, inode, offset, target);
    let Some(notifier) = connection.notifier() else { return found };
    loop {
        let hole = match target {
            SeekTarget::Data => offset,
            SeekTarget::Hole => found.as_ref().map_or(offset, |&hole| hole),
        };
        let data = fs.seek_data(inode, hole).ok();
        if data == Some(hole) {
            return found;
        }
        // 0 is to the end, which may be farther away for the kernel.
        let len = data.map_or(0, |data| data - hole);
        if let Err(error) = notifier.inval_inode(INodeNo(inode.0), hole as i64, len as i64) {
            log::debug!("the kernel did not write back before a seek: {error}");
        }
        let before = std::mem::replace(&mut found, find(fs, inode, offset, target));
        if found.as_ref().ok() == before.as_ref().ok() {
            return found;
        }
    }
}

fn find(fs: &Fs, inode: Inode, offset: u64, target: SeekTarget) -> Result<u64, FsError> {
    match target {
        SeekTarget::Data => fs.seek_data(inode, offset),
        SeekTarget::Hole => fs.seek_hole(inode, offset),
    }
}

fn reply_lseek(reply: ReplyLseek, found: Result<u64, FsError>) {
    match found {
        Ok(offset) => reply.offset(offset as i64),
        Err(error) => reply.error(refuse(&error)),
    }
}
