//! Syncs: fsync(2) and fdatasync(2), of files and directories.

use std::sync::Arc;

use fuser::ReplyEmpty;

use crate::fs::{Fs, FsError};
use crate::fuse::caller_watch::PendingReply;
use crate::fuse::dispatch::Adapter;
use crate::fuse::reply::{refuse, reply_empty};

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
        let reply = PendingReply::new(reply);
        self.connection.callers.watch(caller, &reply);
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
}
