//! Every state that the format's media assumption lets a crash leave behind, reopened.
//!
//! A [`disk::CrashDisk`] notes what is written between two syncs; [`states`] puts together every
//! file that can then lie on the disk; [`scenario`] runs operations and knows which contents a
//! reader may find; [`recovery`] opens each state, reads it, and goes on using it.

#[path = "../common/store/mod.rs"]
mod common_store;

mod disk;
mod exhaustive;
mod found;
mod random;
mod recovery;
mod scenario;
mod states;
