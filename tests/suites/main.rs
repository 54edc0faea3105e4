//! Other people's programs and test suites, and long random campaigns, on the mount.
//!
//! `ATREST_CAMPAIGN=full` runs the long form of each; the default is what CI has time for.

#[path = "../common/mod.rs"]
mod common;

mod archives;
mod crashes;
mod fsx;
mod git;
mod memory;
mod pjdfstest;
mod postgres;
mod promises;
mod random_tree;
mod secrecy;
mod sqlite;
mod toolchain;
mod tree;
mod tree_model;
mod walk;
