//! The walk through the vault after a crash, beside the mount's users.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::fs::Fs;
use crate::store::{Access, VaultError};

/// How long an unmount waits for the walk to finish.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// The walk, at work or done.
pub struct Recovery {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Recovery {
    /// Begins it, if any mount crashed since the last one was finished.
    pub fn start(fs: &Arc<Fs>) -> Option<Self> {
        let vault = fs.vault();
        if vault.access() == Access::ReadOnly || !vault.context().epochs().any_crashed() {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (fs, stopped) = (Arc::clone(fs), Arc::clone(&stop));
        let work = move || match fs.recover(&|| !stopped.load(Ordering::Relaxed)) {
            Ok(files) => log::info!("looked for what a crash left: {files} files got new headers"),
            Err(VaultError::Stopped) => log::info!("the next mount looks for what a crash left"),
            Err(error) => log::info!("the next mount looks again for what a crash left: {error}"),
        };
        let thread = thread::Builder::new().name("recovery".to_owned()).spawn(work).ok()?;
        Some(Self { stop, thread })
    }

    /// Ends it, before the vault is closed.
    pub fn finish(self) {
        let end = Instant::now() + FINISH_TIMEOUT;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.stop.store(true, Ordering::Relaxed);
        if self.thread.join().is_err() {
            log::error!("looking for what a crash left has failed");
        }
    }
}
