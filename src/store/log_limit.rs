//! A limit on the log's lines about files that fail: a program may read a damaged file in a loop, and a
//! disk may fail under thousands of files.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

/// Lines in each period.
const LINES: usize = 100;
const PERIOD: Duration = Duration::from_secs(10);

static LIMIT: LogLimit = LogLimit::new();

/// Logs a line, at warning or above once in 10 s, and no more than 100 different ones together.
/// Returns whether it did.
pub fn log_failure(level: Level, line: fmt::Arguments<'_>) -> bool {
    let admitted = level > Level::Warn || LIMIT.admit(line.to_string());
    if admitted {
        log::log!(level, "{line}");
    }
    admitted
}

/// Admits a line or not.
struct LogLimit(Mutex<Period>);

struct Period {
    begun: Option<Instant>,
    lines: BTreeSet<String>,
}

impl LogLimit {
    const fn new() -> Self {
        Self(Mutex::new(Period { begun: None, lines: BTreeSet::new() }))
    }

    /// Whether the log has room for a line that it does not have yet. The first one that it has no
    /// room for is replaced by one that says so.
    fn admit(&self, line: String) -> bool {
        let mut period = self.0.lock();
        if period.begun.is_none_or(|begun| begun.elapsed() >= PERIOD) {
            *period = Period { begun: Some(Instant::now()), lines: BTreeSet::new() };
        }
        if period.lines.len() > LINES || !period.lines.insert(line) {
            return false;
        }
        let is_full = period.lines.len() > LINES;
        if is_full {
            log::error!("more files fail: they have no lines here for {} s", PERIOD.as_secs());
        }
        !is_full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_once_so_many_and_no_more() {
        let limit = LogLimit::new();
        let admitted = |number: usize| limit.admit(number.to_string());
        assert_eq!((0..10).filter(|_| admitted(0)).count(), 1);
        assert_eq!((0..2 * LINES).filter(|&number| admitted(number)).count(), LINES - 1);
    }
}
