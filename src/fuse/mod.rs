//! The only place that names `fuser`: requests are decoded, answered by [`crate::fs`], and
//! replied to.

mod adapter;
mod changes;
mod connection;
mod convert;
mod copying;
mod counters;
mod dispatch;
mod errno;
mod handshake;
mod killed;
mod lookout;
mod lost_writes;
mod reply;
mod session;
mod sharing;
mod slow;
mod worker_pool;
mod writers;

pub use connection::{Connection, Settings};
pub use counters::Counters;
pub use dispatch::Adapter;
pub use lost_writes::MountId;
pub use reply::is_late_reply;
pub use session::Session;
