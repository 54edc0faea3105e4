//! The operations of the file system, by family.

pub mod attrs;
pub mod change;
pub mod content;
pub mod copy;
pub mod create;
pub mod dir_streams;
pub mod dirs;
pub mod lost_writes;
pub mod open;
pub mod open_files;
pub mod ownership;
pub mod remove;
pub mod rename;
pub mod space;
pub mod stat;
pub mod xattrs;
