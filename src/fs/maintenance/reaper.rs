//! Dropping the holds on removed files in a thread of its own: the last hold on an inode frees its
//! space, which takes the backing filesystem long.

use std::sync::OnceLock;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use crate::fs::namespace::pin::Pin;

/// Holds that wait at most; a further one is dropped by the calling thread.
const MAX_WAITING: usize = 64;

/// Lets go of what it is given; its thread begins with the first.
#[derive(Debug, Default)]
pub struct Reaper(OnceLock<Option<SyncSender<Pin>>>);

impl Reaper {
    pub fn drop_later(&self, hold: Pin) {
        let sender = self.0.get_or_init(|| {
            let (sender, receiver) = sync_channel(MAX_WAITING);
            let reap = move || {
                for hold in receiver {
                    drop(hold);
                    // A thread that keeps this processor free for the caller's would take a long wait for
                    // another's work, and leave.
                    thread::yield_now();
                }
            };
            thread::Builder::new().name("reaper".to_owned()).spawn(reap).ok().map(|_| sender)
        });
        if let Some(sender) = sender {
            // One that finds no room comes back in the error, and goes with it.
            drop(sender.try_send(hold));
        }
    }
}
