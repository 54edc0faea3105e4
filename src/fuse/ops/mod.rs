//! The operations that need more than a call of the file system and a reply, by family.
//!
//! Requests that wait for a disk, or for the kernel's own write-back, are answered by a pool: the session's
//! thread hands on the reply and the work, and reads the next request. The caller waits for its answer, so
//! the requests of one caller keep their order. In a vault in memory writes, syncs and changes of names and
//! attributes wait for nothing, and the thread that took them answers them.

mod attributes;
mod change;
mod names;
mod pending_copy;
mod range;
pub(super) mod read;
pub(super) mod seek;
mod sync;
pub(super) mod write;
