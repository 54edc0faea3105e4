//! The files that are open: one for each inode, with its sealed content, its times and its failures.

pub mod access_times;
pub mod backing;
pub mod cached_times;
pub mod change_times;
pub mod failures;
pub mod open_file;
pub mod reported_blocks;
pub mod table;
pub mod unsynced;
