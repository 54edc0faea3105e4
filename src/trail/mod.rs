//! The trail: who used which master key, when, for what, and whether it was allowed.
//!
//! A trail is a directory of files of lines, each line one event in JSON, in the field names that
//! AWS CloudTrail has for KMS. Its last field, `chain`, is a MAC of the line and of the `chain` of
//! the line before, under a key that only the key file has: so nobody without it can change, drop,
//! move or insert a line, and it shows. How many lines there are, and the last one's `chain`, is
//! sealed in the vault: so the last lines can't be dropped either.
//!
//! [`Trail`] takes events and writes them by a thread of its own; [`verify`] and [`query`] read.

mod chain;
mod check;
mod directory;
mod end;
mod error;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod line;
mod lookup;
mod mounts;
mod queue;
mod report;
mod seal;
mod verify;
mod writer;

pub use chain::Head;
pub use directory::default_directory;
pub use error::TrailError;
pub use event::{Event, EventName, Failed, Parameters, Purpose, UsedKey};
pub use line::Line;
pub use lookup::{Filter, Reader, number, query, who_read};
pub use mounts::Mounts;
pub use queue::{Condition, Sink, Trail};
pub use report::{Finding, Report};
pub use seal::{Seal, SealKeeper, Settings};
pub use verify::verify;
pub use writer::Start;

#[cfg(test)]
mod tests;
