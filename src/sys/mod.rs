//! What needs the kernel's own words: processes and signals, mounts, who holds a mount busy.
//!
//! The only layer with `unsafe`; everything above asks it through safe functions.

#![allow(unsafe_code)]

mod bdi;
mod fusermount;
mod holders;
mod locked;
mod mount;
mod mountinfo;
mod peer;
mod power;
mod process;

pub use bdi::{Refused, tune};
pub use holders::{Holder, holders};
pub use locked::{LockedBytes, LockedMemory, locked_memory};
pub use mount::{
    FILE_SYSTEM_TYPE, Flags, MountError, MountRequest, UnmountError, is_stale, mount, unmount,
};
pub use mountinfo::{Device, MountTable, MountedVault};
pub use peer::peer_groups;
pub use power::on_battery;
pub use process::{
    Background, BlockedSignals, Forked, Starting, fork_to_background, keep_secrets, prepare_daemon,
    processor_of,
};
