//! Permission to use a file's master key, and the record of each use.

pub mod authorize;
pub mod handle;
pub mod open_mode;
pub mod permission;
pub mod rename_permission;
pub mod simulate;
pub mod strict;
pub mod trail;
