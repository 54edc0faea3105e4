//! All that is read of /proc (proc(5)).

pub(super) mod descriptors;
pub(super) mod holders;
pub(super) mod mountinfo;
