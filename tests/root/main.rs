//! What ordinary programs may expect of the mount, one family of operations a file.

#[path = "../common/mod.rs"]
mod common;
