//! The threads that read the FUSE device and answer.

pub(super) mod blocking_pool;
pub mod busy_poll;
pub(super) mod cpu_pairing;
pub(super) mod pool;
