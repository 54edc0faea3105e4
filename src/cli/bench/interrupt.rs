//! Ending a measurement by a signal.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::service::failure::{Exit, Failure};
use crate::sys::BlockedSignals;

/// Whether the person has had enough.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Catches SIGINT, SIGTERM and SIGHUP from here on.
    pub fn watch() -> io::Result<Self> {
        let signals = BlockedSignals::block(true)?;
        let interrupt = Self::default();
        let seen = interrupt.clone();
        let wait = move || {
            if signals.wait().is_ok() {
                seen.0.store(true, Ordering::Release);
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        Ok(interrupt)
    }

    /// To be asked often.
    ///
    /// # Errors
    /// After a signal.
    pub fn check(&self) -> Result<(), Failure> {
        match self.0.load(Ordering::Acquire) {
            true => Err(Failure::new(Exit::Failed, "interrupted: nothing was left behind")),
            false => Ok(()),
        }
    }
}
