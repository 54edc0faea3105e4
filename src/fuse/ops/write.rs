//! Writes of programs, and the kernel's write-back.

use std::sync::Arc;

use fuser::ReplyWrite;

use crate::fs::{Fs, FsError, Handle, Inode, Origin, Subject, Written};
use crate::fuse::caller_watch::PendingReply;
use crate::fuse::connection::{Connection, RequestGuard};
use crate::fuse::dispatch::Adapter;
use crate::fuse::reply::refuse;

/// A write as it arrived.
#[derive(Debug)]
pub struct WriteRequest {
    pub inode: Inode,
    pub handle: Handle,
    pub offset: u64,
    pub origin: Origin,
    /// Whether the set-user-ID and set-group-ID bits are cleared.
    pub kills_privilege: bool,
    pub caller: Subject,
}

impl WriteRequest {
    fn run(&self, fs: &Fs, data: &[u8]) -> Result<Written, FsError> {
        let Self { inode, handle, offset, origin, .. } = *self;
        fs.may_still_write(inode, handle, origin)?;
        let written = fs.write_as(handle, inode, offset, data, origin)?;
        if self.kills_privilege {
            fs.drop_privilege_bits(inode, &self.caller)?;
        }
        Ok(written)
    }

    /// Whether the kernel writes back its cache. Such requests are limited in number, and others wait for
    /// them.
    fn is_write_back(&self) -> bool {
        matches!(self.origin, Origin::Cache | Origin::Mapping)
    }
}

impl Adapter {
    /// Writes in this thread, and has the pool sync where the caller waits for that.
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
        if guard.should_spill() && !write.is_write_back() {
            let data = data.to_vec();
            return self.run(guard, move |fs| answer(reply, write.run(fs, &data)));
        }
        if write.origin != Origin::ProgramSync || self.in_memory {
            let end = write.offset + data.len() as u64;
            let is_write_back = write.is_write_back();
            if is_write_back
                && self.lost_writes.refuses_growth(write.inode)
                && let Err(error) = self.fs.refuse_growth(write.inode, end)
            {
                self.lost_writes.cut_again(&self.fs, write.inode);
                return reply.error(refuse(&error));
            }
            let written = write.run(&self.fs, data);
            if written.is_err() && is_write_back {
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
        let reply = PendingReply::new((reply, len));
        self.connection.callers.watch(unsynced.caller.pid, &reply);
        self.hand_on(move |fs| {
            let synced = fs.fsync(unsynced.inode, unsynced.handle, false);
            if let Some((reply, _)) = reply.take() {
                answer(reply, synced.and(written));
            }
        });
    }

    /// An open file was closed, which was open for writing where `wrote`.
    pub(in crate::fuse) fn released(&self, inode: Inode, wrote: bool) {
        self.writers.released(inode, wrote);
        if wrote && !self.writers.has(inode) {
            self.lost_writes.forget(inode);
        }
    }
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
