//! The process of a mount: its plan, its session, its answers to clients, and its end.

mod below;
mod handler;
mod logging;
mod monitor;
mod mount_guard;
mod mountpoint;
pub mod options;
pub mod plan;
mod reach;
mod recovery;
mod scheduler;
pub mod session;
mod sinks;
mod space;
mod trail;
mod trail_readers;
mod trail_requests;

pub use monitor::run as run_monitor;
pub use mountpoint::lies_in;
