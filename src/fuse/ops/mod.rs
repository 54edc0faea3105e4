//! The operations that need more than a call of the file system, by family.

pub(super) mod data;
pub(super) mod names;
