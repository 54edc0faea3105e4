//! The operations of the file system, by family.

pub mod attrs;
pub mod data;
pub mod dirs;
pub mod entries;
pub mod open_files;
pub mod rename;
pub mod xattrs;
