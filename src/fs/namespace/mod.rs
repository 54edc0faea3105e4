//! Names and the inodes that have them: how one is found by the other, and the locks under which
//! names change.

pub mod at_path;
pub mod cycle;
pub mod directory_keys;
pub mod identities;
pub mod inode;
pub mod key_locks;
pub mod lookup;
pub mod moves;
pub mod names;
pub mod new_file_key;
pub mod nodes;
pub mod pending_frees;
pub mod pin;
pub mod resolver;
