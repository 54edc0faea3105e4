//! The FUSE session: the kernel's requests are decoded, run by [`crate::fs`], and replied to. No other layer
//! names `fuser`.
//!
//! `adapter` has a method for each operation, `ops` the work of those that need more than one call, and
//! `workers` the threads. `lost_writes` repairs the kernel's view after a write-back that failed.

mod adapter;
mod caller_watch;
mod connection;
mod convert;
mod counters;
mod dispatch;
mod errno;
mod handshake;
mod lost_writes;
mod ops;
mod reply;
mod session;
mod workers;
mod writers;

pub use connection::{Connection, Settings};
pub use counters::Counters;
pub use dispatch::Adapter;
pub use lost_writes::MountId;
pub use reply::is_late_reply;
pub use session::Session;
pub use workers::busy_poll::{BusyPoll, MAX_BUSY_POLL_US};
