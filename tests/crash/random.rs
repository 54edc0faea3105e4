//! Longer sequences.
