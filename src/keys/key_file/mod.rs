//! The key file: a ring on disk, sealed, replaced atomically and locked while it changes.

mod body;
mod envelope;
mod file;
mod locate;
mod mark;
mod read;
mod replace;

pub use file::{KeyFile, OpenKeyFile};
pub use mark::KeyFileMark;

#[cfg(any(test, fuzzing))]
pub(super) use body::{ring_from_json, ring_to_json};
#[cfg(any(test, fuzzing))]
pub(super) use envelope::Envelope;

#[cfg(test)]
mod tests;
