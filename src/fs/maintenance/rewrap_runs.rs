//! Whether a header of any file may be written anew at the moment.

use std::sync::atomic::{AtomicU64, Ordering};

/// Tells whether a rewrap was at work meanwhile.
#[derive(Debug, Default)]
pub struct RewrapRuns {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A rewrap at work.
pub struct Run<'a>(&'a RewrapRuns);

impl RewrapRuns {
    /// `None` while one runs. Between two calls that return the same number none ran.
    pub fn quiet(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::SeqCst);
        (self.begun.load(Ordering::SeqCst) == ended).then_some(ended)
    }

    pub(in crate::fs) fn begin(&self) -> Run<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Run(self)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}
