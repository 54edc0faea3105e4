//! All that is read of /proc (proc(5)).

pub(super) mod descriptors;
pub(super) mod holders;
pub(super) mod id_map;
pub(super) mod machine;
pub(super) mod mountinfo;
pub(super) mod own;
pub(super) mod process;
