//! A bound on how many lines failing files bring into the log: a disk may fail under thousands.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines in each period.
const LINES: u32 = 100;
const PERIOD: Duration = Duration::from_secs(10);

/// Admits a line or not.
#[derive(Debug)]
pub(super) struct LogLimit(Mutex<Option<Window>>);

#[derive(Debug, Clone, Copy)]
struct Window {
    begun: Instant,
    lines: u32,
}

impl LogLimit {
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether the log has room for one more line. The first line that is refused is replaced by one that says so.
    pub fn admit(&self) -> bool {
        let mut window = self.0.lock();
        let now = Instant::now();
        let current = window.filter(|window| now - window.begun < PERIOD);
        let mut current = current.unwrap_or(Window { begun: now, lines: 0 });
        current.lines = current.lines.saturating_add(1);
        *window = Some(current);
        if current.lines == LINES + 1 {
            log::error!("more files fail: they have no lines here for {} s", PERIOD.as_secs());
        }
        current.lines <= LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_and_no_more() {
        let limit = LogLimit::new();
        assert_eq!((0..2 * LINES).filter(|_| limit.admit()).count(), LINES as usize);
    }
}
