//! What somebody finds out or gets who changes the vault, its key file, its trail or what a machine
//! knows of it, behind the daemon's back.

#[path = "../common/mod.rs"]
mod common;

mod copies;
mod key_file;
mod rollback;
