//! The only place that names `fuser`: requests are decoded, answered by [`crate::fs`], and
//! replied to.

mod adapter;
mod connection;
mod convert;
mod counters;
mod errno;
mod handshake;
mod lookout;
mod reply;
mod seek;
mod session;
mod sharing;

pub use adapter::Adapter;
pub use connection::{Connection, Settings};
pub use counters::Counters;
pub use reply::is_late_reply;
pub use session::Session;
