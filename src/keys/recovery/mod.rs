//! The recovery form of a ring: few bytes, as numbered lines or as words, for paper.

mod armor;
mod bytes;
mod words;

#[cfg(any(test, fuzzing))]
pub(super) use bytes::check;

#[cfg(test)]
mod tests;
