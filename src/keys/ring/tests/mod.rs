//! Tests of the ring.

mod lifecycle;
mod wrapping;
