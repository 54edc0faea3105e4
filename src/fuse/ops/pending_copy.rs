//! The reply to a copy_file_range(2). It gives the bytes that were copied, also where the caller is killed
//! in the middle.

use std::sync::Arc;

use fuser::{Errno, ReplyWrite};
use parking_lot::Mutex;

use crate::fs::{CopyProgress, FsError};
use crate::fuse::caller_watch::Cancel;
use crate::fuse::reply::refuse;

/// A copy that is under way. When its caller is killed, it is answered at once or, while bytes are being
/// written, as soon as they are. Nothing is written after the reply.
pub struct PendingCopy(Mutex<State>);

struct State {
    reply: Option<ReplyWrite>,
    /// Bytes.
    copied: u64,
    /// Some are being written.
    writing: bool,
    killed: bool,
}

impl PendingCopy {
    pub fn new(reply: ReplyWrite) -> Arc<Self> {
        let reply = Some(reply);
        Arc::new(Self(Mutex::new(State { reply, copied: 0, writing: false, killed: false })))
    }

    /// Whether the reply was given.
    pub fn is_answered(&self) -> bool {
        self.0.lock().reply.is_none()
    }

    /// The copy has ended, with so many bytes copied.
    pub fn end(&self, copied: Result<u64, FsError>) {
        let Some(reply) = self.0.lock().reply.take() else { return };
        match copied {
            Ok(copied) => reply.written(copied as u32),
            Err(error) => reply.error(refuse(&error)),
        }
    }
}

impl State {
    fn answer_killed(&mut self) {
        match self.reply.take() {
            Some(reply) if self.copied > 0 => reply.written(self.copied as u32),
            Some(reply) => reply.error(Errno::EINTR),
            None => {}
        }
    }
}

impl CopyProgress for PendingCopy {
    fn begin_write(&self) -> bool {
        let mut state = self.0.lock();
        state.writing = state.reply.is_some();
        state.writing
    }

    fn wrote(&self, len: u64) -> bool {
        let mut state = self.0.lock();
        state.writing = false;
        state.copied += len;
        if state.killed {
            state.answer_killed();
        }
        state.reply.is_some()
    }
}

impl Cancel for PendingCopy {
    fn cancel(&self) {
        let mut state = self.0.lock();
        state.killed = true;
        if !state.writing {
            state.answer_killed();
        }
    }
}
