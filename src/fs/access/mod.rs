//! Who may use a file's master key, and the record of each use.

pub mod handles;
pub mod permission;
pub mod simulate;
pub mod trail;
