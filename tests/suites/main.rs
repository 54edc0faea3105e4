//! Other people's programs and test suites, and long random campaigns, on the mount.

#[path = "../common/mod.rs"]
mod common;
