//! The trail: a record of every use of a master key, allowed or refused.
//!
//! A trail is a directory of files of lines. Each line is an event in JSON, with the field names of
//! AWS CloudTrail for KMS. Its last field, `chain`, is a MAC of the line and of the `chain` of the line
//! before, under a key that only the key file holds. Without that key no line can be changed, removed,
//! moved or inserted unnoticed. The vault keeps a [`Checkpoint`]: the number and `chain` of the last
//! line, so that lines cannot be cut from the end either.
//!
//! [`Trail`] queues events, which a thread writes; [`verify()`] and [`query()`] read them.

mod chain;
mod checkpoint;
mod claims;
mod directory;
mod error;
mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod line;
mod mounts;
mod query;
mod queue;
mod report;
mod resume;
mod verifier;
mod verify;
mod writer;

pub use chain::Head;
pub use checkpoint::{Checkpoint, CheckpointStore, Durability, Settings};
pub use directory::default_directory;
pub use error::TrailError;
pub use event::{Event, EventName, Failed, Parameters, Purpose, UsedKey};
pub use line::Line;
pub use mounts::Mounts;
pub use query::{Filter, Reader, number, query, who_read};
pub use queue::{Sink, Trail, TrailStatus};
pub use report::{Finding, Report};
pub use verify::verify;
pub use writer::Start;

#[cfg(test)]
mod tests;
