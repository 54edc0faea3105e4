//! Seeking to data or a hole, beside the threads that serve requests.
//!
//! With the writeback cache the kernel may hold content that has not been written here, and asks
//! all the same. So it is first told to drop the file's clean pages, which makes it write the
//! dirty ones. That takes requests of its own, which other threads must be free to serve: hence
//! a thread for it.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};

use fuser::{Errno, INodeNo, Notifier, ReplyLseek};

use super::errno::errno;
use crate::fs::{Fs, FsError, Inode};

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sought {
    Data,
    Hole,
}

pub(super) struct Seek {
    pub(super) inode: Inode,
    pub(super) offset: u64,
    pub(super) sought: Sought,
    pub(super) reply: ReplyLseek,
}

/// Answers seeks one after the other; its thread begins with the first.
#[derive(Debug, Default)]
pub(super) struct Seeker(OnceLock<Sender<Seek>>);

impl Seeker {
    pub(super) fn answer(&self, fs: &Arc<Fs>, notifier: Option<&Notifier>, seek: Seek) {
        let sender = self.0.get_or_init(|| {
            let (sender, receiver) = channel::<Seek>();
            let (fs, notifier) = (Arc::clone(fs), notifier.cloned());
            std::thread::spawn(move || {
                for seek in receiver {
                    answer(&fs, notifier.as_ref(), seek);
                }
            });
            sender
        });
        if let Err(unsent) = sender.send(seek) {
            unsent.0.reply.error(Errno::EIO);
        }
    }
}

fn answer(fs: &Fs, notifier: Option<&Notifier>, seek: Seek) {
    if let Some(notifier) = notifier
        && let Err(error) = notifier.inval_inode(INodeNo(seek.inode.0), 0, 0)
    {
        log::debug!("the kernel did not write back before a seek: {error}");
    }
    match find(fs, &seek) {
        Ok(offset) => seek.reply.offset(offset as i64),
        Err(error) => {
            log::log!(error.level(), "lseek: {error}");
            seek.reply.error(errno(&error));
        }
    }
}

fn find(fs: &Fs, seek: &Seek) -> Result<u64, FsError> {
    match seek.sought {
        Sought::Data => fs.seek_data(seek.inode, seek.offset),
        Sought::Hole => fs.seek_hole(seek.inode, seek.offset),
    }
}
