//! Requests that wait for a disk, or for the kernel's own write-back: they are answered by the pool.
//!
//! The session's thread moves reply and work there and reads the next request. The caller still
//! waits for its answer, so what one caller does keeps its order. A vault in memory syncs at once,
//! and its syncs stay where they are.

use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, INodeNo, ReplyAttr, ReplyEmpty, ReplyLseek, ReplyWrite};

use crate::fs::{Allocate, Caller, Change, Fs, FsError, Handle, Inode, Origin, Written};
use crate::fuse::connection::{Connection, RequestGuard};
use crate::fuse::copying::Copying;
use crate::fuse::dispatch::Adapter;
use crate::fuse::killed::Unanswered;
use crate::fuse::reply::{TTL, refuse, reply_attr, reply_empty};

/// The most that one copy_file_range(2) copies: its caller holds the target's lock meanwhile, and
/// asks again for the rest.
const MAX_COPY: u64 = 16 * 1024 * 1024;
/// How often a range is emptied again in which pages were read meanwhile.
const MAX_ROUNDS: u32 = 4;

/// What to seek.
#[derive(Debug, Clone, Copy)]
pub(in crate::fuse) enum Sought {
    Data,
    Hole,
}

/// A write as it arrived.
#[derive(Debug, Clone, Copy)]
pub(in crate::fuse) struct WriteRequest {
    pub(in crate::fuse) inode: Inode,
    pub(in crate::fuse) handle: Handle,
    pub(in crate::fuse) offset: u64,
    pub(in crate::fuse) origin: Origin,
    /// Whether suid and sgid go.
    pub(in crate::fuse) kills_privilege: bool,
    pub(in crate::fuse) caller: Caller,
}

impl WriteRequest {
    fn run(self, fs: &Fs, data: &[u8]) -> Result<Written, FsError> {
        let Self { inode, handle, offset, origin, .. } = self;
        fs.may_still_write(inode, handle, origin)?;
        let written = fs.write_as(handle, inode, offset, data, origin)?;
        if self.kills_privilege {
            fs.drop_privilege_bits(inode, &self.caller)?;
        }
        Ok(written)
    }

    /// Whether the kernel writes back what it kept: such requests are bounded, and others wait
    /// for them.
    fn is_of_kernel(self) -> bool {
        matches!(self.origin, Origin::Cache | Origin::Mapping)
    }
}

impl Adapter {
    /// Has the pool make something durable.
    pub(in crate::fuse) fn sync(
        &self,
        caller: u32,
        reply: ReplyEmpty,
        sync: impl FnOnce(&Fs) -> Result<(), FsError> + Send + 'static,
    ) {
        if self.in_memory {
            return reply_empty(reply, sync(&self.fs));
        }
        let reply = Unanswered::new(reply);
        self.connection.callers.note(caller, &reply);
        let connection = Arc::clone(&self.connection);
        self.hand_on(move |fs| {
            if reply.is_answered() {
                return;
            }
            let synced = sync(fs);
            match (reply.take(), synced) {
                (Some(reply), synced) => reply_empty(reply, synced),
                (None, Err(error)) => _ = refuse(&error),
                (None, Ok(())) => {}
            }
            connection.on_handed_on_sync();
        });
    }

    /// Writes here, and has the pool make it durable where the caller waits for that.
    pub(in crate::fuse) fn write_from(
        &self,
        guard: &RequestGuard<'_>,
        write: WriteRequest,
        data: &[u8],
        reply: ReplyWrite,
    ) {
        let connection = Arc::clone(&self.connection);
        let len = data.len() as u32;
        let answer =
            move |reply, written| answer_write(&connection, write.inode, len, reply, written);
        if guard.should_spill() && !write.is_of_kernel() {
            let data = data.to_vec();
            return self.run(guard, move |fs| answer(reply, write.run(fs, &data)));
        }
        if write.origin != Origin::ProgramSync || self.in_memory {
            let end = write.offset + data.len() as u64;
            let refused = match write.is_of_kernel() && self.lost_writes.refuses_growth(write.inode)
            {
                true => self.fs.refuse_growth(write.inode, end),
                false => Ok(()),
            };
            if let Err(error) = refused {
                self.lost_writes.cut_again(&self.fs, write.inode);
                return reply.error(refuse(&error));
            }
            let written = write.run(&self.fs, data);
            if written.is_err() && write.is_of_kernel() {
                let notifier = self.connection.notifier();
                let lost = (write.inode, write.offset..end);
                self.lost_writes.note(&self.fs, notifier, &self.settings.mount, lost);
            }
            return answer(reply, written);
        }
        let unsynced = WriteRequest { origin: Origin::Program, ..write };
        let written = unsynced.run(&self.fs, data);
        if written.is_err() {
            return answer(reply, written);
        }
        let reply = Unanswered::new((reply, len));
        self.connection.callers.note(write.caller.pid, &reply);
        self.hand_on(move |fs| {
            let synced = fs.fsync(write.inode, write.handle, false);
            if let Some((reply, _)) = reply.take() {
                answer(reply, synced.and(written));
            }
        });
    }

    /// Shows attributes; once the kernel keeps no more of the file than the vault, where the caller
    /// may wait: through a `handle` it holds a lock that this takes, and is told what was lost.
    pub(in crate::fuse) fn show(
        &self,
        inode: Inode,
        handle: Option<Handle>,
        caller: Caller,
        reply: ReplyAttr,
    ) {
        let is_pending = handle.is_none() && self.lost_writes.is_pending(inode);
        if is_pending && !self.fs.is_cut_of_lost(&caller) {
            let fs = Arc::clone(&self.fs);
            return self.lost_writes.once_settled(inode, move || {
                reply_attr(reply, Duration::ZERO, fs.getattr(inode));
            });
        }
        let told = handle.map_or(Ok(()), |handle| self.tell_lost_write(inode, handle));
        let attr = told.and_then(|()| self.fs.getattr(inode));
        let ttl = if self.fs.has_lost_writes(inode) { Duration::ZERO } else { TTL };
        reply_attr(reply, ttl, attr);
    }

    fn tell_lost_write(&self, inode: Inode, handle: Handle) -> Result<(), FsError> {
        let told = self.fs.tell_lost_write(inode, handle);
        if told.is_err() {
            self.lost_writes.cut_again(&self.fs, inode);
        } else if handle.writes() {
            if self.lost_writes.refuses_writes(inode) {
                return self.fs.refuse_lost(inode);
            }
            self.lost_writes.forget(inode);
        }
        told
    }

    /// One descriptor less.
    pub(in crate::fuse) fn released(&self, inode: Inode, wrote: bool) {
        self.writers.released(inode, wrote);
        if wrote && !self.writers.has(inode) {
            self.lost_writes.forget(inode);
        }
    }

    /// Changes attributes, a length among them. Whoever is killed waits for that: if it was not told,
    /// the kernel would keep the length that the file had.
    pub(in crate::fuse) fn resize(
        &self,
        inode: Inode,
        change: Change,
        caller: Caller,
        reply: ReplyAttr,
    ) {
        // To empty a file takes no flush, and is done at each open that empties it. Nor does the cut
        // to what was written, which others may wait for.
        if self.fs.is_cut_of_lost(&caller) {
            let attr = self.fs.setattr(inode, &change, &caller);
            self.lost_writes.note_cut(inode);
            // Who writes next is to ask.
            return reply_attr(reply, Duration::ZERO, attr);
        }
        let quick = change.size == Some(0);
        if self.in_memory || quick {
            return reply_attr(reply, TTL, self.fs.setattr(inode, &change, &caller));
        }
        self.hand_on(move |fs| reply_attr(reply, TTL, fs.setattr(inode, &change, &caller)));
    }

    /// Copies a part of what is asked for, and stops when nobody waits for it any more.
    ///
    /// After a copy the kernel drops the target's pages, the whole of the first and the last too, and
    /// with them what was stored through a mapping meanwhile. So where another may have the target
    /// mapped, it is refused, and the kernel copies by its cache.
    pub(in crate::fuse) fn copy(
        &self,
        from: (Inode, u64),
        to: (Inode, u64),
        len: u64,
        caller: Caller,
        reply: ReplyWrite,
    ) {
        if self.writers.are_several(to.0) {
            return reply.error(Errno::EOPNOTSUPP);
        }
        let len = len.min(MAX_COPY);
        let copying = Copying::new(reply);
        self.connection.callers.note(caller.pid, &copying);
        self.hand_on(move |fs| {
            if !copying.is_answered() {
                copying.end(fs.copy(from, to, len, &caller, &*copying));
            }
        });
    }

    /// Reserves, zeroes or gives back a range.
    pub(in crate::fuse) fn allocate(
        &self,
        (inode, handle): (Inode, Handle),
        (offset, len): (u64, u64),
        how: Allocate,
        caller: Caller,
        reply: ReplyEmpty,
    ) {
        let connection = Arc::clone(&self.connection);
        self.hand_on(move |fs| {
            let may = fs.may_still_write(inode, handle, Origin::Program);
            let zeroes = !matches!(how, Allocate::Extend | Allocate::KeepSize);
            let allocate = || fs.allocate(inode, offset, len, how, &caller);
            let allocated = may.and_then(|()| match zeroes {
                true => without_pages(&connection, inode, (offset, len), allocate),
                false => allocate(),
            });
            reply_empty(reply, allocated);
        });
    }

    /// Seeks data or a hole, also in what the kernel holds and was not written here: with its
    /// writeback cache, or through a shared mapping.
    pub(in crate::fuse) fn seek(
        &self,
        caller: u32,
        inode: Inode,
        offset: u64,
        sought: Sought,
        reply: ReplyLseek,
    ) {
        if !self.writers.has(inode) {
            return reply_lseek(reply, find(&self.fs, inode, offset, sought));
        }
        let reply = Unanswered::new(reply);
        self.connection.callers.note(caller, &reply);
        let connection = Arc::clone(&self.connection);
        self.hand_on(move |fs| {
            if reply.is_answered() {
                return;
            }
            let found = find_written_back(&connection, fs, inode, offset, sought);
            if let Some(reply) = reply.take() {
                reply_lseek(reply, found);
            }
        });
    }
}

/// Empties a range of which the kernel keeps no pages. It has written them back before it asked,
/// but a store through a mapping may have changed one since; written back once the range is empty,
/// it would bring old bytes there. A page that was read while the range was emptied may hold such
/// bytes too: then it is done again.
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

fn answer_write(
    connection: &Connection,
    inode: Inode,
    len: u32,
    reply: ReplyWrite,
    written: Result<Written, FsError>,
) {
    let outgrown = written.as_ref().is_ok_and(|done| done.blocks_outgrown);
    match written {
        Ok(_) => reply.written(len),
        Err(error) => reply.error(refuse(&error)),
    }
    if outgrown {
        connection.invalidate_attributes(inode);
    }
}

/// Seeks where the kernel may hold dirty pages. Only those of the hole that is found can change the
/// answer: the kernel is told to drop that hole's pages, which makes it write the dirty ones, until
/// the answer stays. So no page of data is dropped, and read again.
fn find_written_back(
    connection: &Connection,
    fs: &Fs,
    inode: Inode,
    offset: u64,
    sought: Sought,
) -> Result<u64, FsError> {
    let mut found = find(fs, inode, offset, sought);
    let Some(notifier) = connection.notifier() else { return found };
    loop {
        let hole = match sought {
            Sought::Data => offset,
            Sought::Hole => found.as_ref().map_or(offset, |&hole| hole),
        };
        let data = fs.seek_data(inode, hole).ok();
        if data == Some(hole) {
            return found;
        }
        // 0 is to the end, which the kernel may know farther away.
        let len = data.map_or(0, |data| data - hole);
        if let Err(error) = notifier.inval_inode(INodeNo(inode.0), hole as i64, len as i64) {
            log::debug!("the kernel did not write back before a seek: {error}");
        }
        let before = std::mem::replace(&mut found, find(fs, inode, offset, sought));
        if found.as_ref().ok() == before.as_ref().ok() {
            return found;
        }
    }
}

fn find(fs: &Fs, inode: Inode, offset: u64, sought: Sought) -> Result<u64, FsError> {
    match sought {
        Sought::Data => fs.seek_data(inode, offset),
        Sought::Hole => fs.seek_hole(inode, offset),
    }
}

fn reply_lseek(reply: ReplyLseek, found: Result<u64, FsError>) {
    match found {
        Ok(offset) => reply.offset(offset as i64),
        Err(error) => reply.error(refuse(&error)),
    }
}
