//! How long the random tests run: `ATREST_CAMPAIGN=short` (the default, what CI runs) or `full`.

use std::env;
use std::fmt::Display;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Campaign {
    Short,
    Full,
}

impl Campaign {
    pub fn from_env() -> Campaign {
        match env::var("ATREST_CAMPAIGN").as_deref() {
            Ok("full") => Campaign::Full,
            Ok("short" | "") | Err(_) => Campaign::Short,
            Ok(other) => panic!("ATREST_CAMPAIGN is {other:?}; it is short or full"),
        }
    }

    /// The figure of the campaign that was asked for.
    pub fn pick<T>(short: T, full: T) -> T {
        match Campaign::from_env() {
            Campaign::Short => short,
            Campaign::Full => full,
        }
    }

    /// Tells the figures of a long campaign, which are its result; a short one has none to speak of.
    pub fn report(figures: impl Display) {
        if Campaign::from_env() == Campaign::Full {
            eprintln!("campaign: {figures}");
        }
    }
}
