//! What is left after something failed below the daemon: a system call, or a disk. Root only.
//!
//! [`common::injector`] lets the n-th system call of a real daemon fail; [`disk`] makes real disks that are
//! small, full, or broken.

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod databases;
mod disk;
mod disks;
mod hammer;
mod history;
mod syncs;
mod workload;
mod world;
