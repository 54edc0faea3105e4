//! `--spin`: how long the daemon's threads look out for the next request before they sleep.

use std::thread;
use std::time::Duration;

use crate::sys;

/// The default; the manual's performance page has the figures.
const CHOSEN: Duration = Duration::from_micros(50);
/// The longest busy poll in microseconds.
pub const MAX_MICROSECONDS: u32 = 1000;

/// How long to look out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spin {
    /// As long as it pays: not at all with a single processor, which whoever makes the requests
    /// needs more, nor on battery.
    #[default]
    Chosen,
    /// So many microseconds, zero for never, whatever the machine is like.
    Asked(u32),
}

impl Spin {
    /// How long, with the power as it is now.
    pub fn now(self) -> Duration {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        self.with(processors, sys::on_battery())
    }

    fn with(self, processors: usize, on_battery: bool) -> Duration {
        match self {
            Self::Asked(microseconds) => Duration::from_micros(microseconds.into()),
            Self::Chosen if processors == 1 || on_battery => Duration::ZERO,
            Self::Chosen => CHOSEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_spun_away_that_somebody_needs() {
        assert_eq!(Spin::Chosen.with(1, false), Duration::ZERO);
        assert_eq!(Spin::Chosen.with(8, true), Duration::ZERO);
        assert_eq!(Spin::Chosen.with(2, false), CHOSEN);
        assert_eq!(Spin::Asked(80).with(1, true), Duration::from_micros(80));
        assert_eq!(Spin::Asked(0).with(8, false), Duration::ZERO);
    }
}
