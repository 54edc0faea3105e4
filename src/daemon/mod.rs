//! The process of a mount: its plan, its session, its answers to clients, and its end.

mod below;
mod crash_walk;
mod handler;
mod logging;
mod monitor;
mod mount_guard;
mod mountpoint;
pub mod options;
pub mod plan;
mod reach;
mod scheduler;
pub mod session;
mod sinks;
mod space;
mod stale_mount;
mod trail;
mod trail_readers;
mod trail_requests;

pub use monitor::run as run_monitor;
pub use mountpoint::lies_in;
