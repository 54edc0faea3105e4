//! The only place that names `fuser`: requests are decoded, answered by [`crate::fs`], and
//! replied to.

mod adapter;
mod convert;
mod counters;
mod errno;
mod seek;
mod session;
mod spin;

pub use adapter::{Adapter, Connection, Settings};
pub use counters::Counters;
pub use session::Session;
