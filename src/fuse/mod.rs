//! The only place that names `fuser`: requests are decoded, answered by [`crate::fs`], and
//! replied to.

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
