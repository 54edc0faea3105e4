//! System calls, /proc and /sys: processes, signals, mounts, locks, memory, and what confines the daemon.
//!
//! The only layer with `unsafe`. The layers above call its safe functions.

#![allow(unsafe_code)]

mod affinity;
mod bdi;
mod beneath;
mod callers;
mod capability;
mod cgroup;
mod confine;
mod directory;
mod file_lock;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod inherited;
mod kernel_random;
mod landlock;
mod locked;
mod machine_id;
mod memory;
mod monitor;
mod mount;
mod peer;
mod power;
mod proc;
mod process;
mod regular;
mod shown;
mod signals;
mod state_home;
mod stream;

pub use affinity::Affinity;
pub use bdi::{Refused, set_dirty_limit, tune};
pub use beneath::open_beneath;
pub use callers::{is_truncating_open, program_of};
pub use capability::{beyond_limits, obey_limits};
pub use cgroup::memory_limit;
pub use confine::{Confinement, confine, confine_files, confinement};
pub use directory::{open_directory, open_directory_at, sync_directory, sync_name};
pub use file_lock::{lock, try_lock, try_lock_for};
pub use inherited::{InheritedDescriptors, Limit, limit_path, prepare_daemon, reset_process};
pub use kernel_random::fill_from_kernel;
pub use landlock::Reach;
pub use locked::{LockedBytes, LockedMemory, locked_memory};
pub use machine_id::machine_id;
pub use memory::serve_memory;
pub use monitor::{ARGUMENT as MONITOR_ARGUMENT, Monitor, serve_daemon};
pub use mount::command::mount_command_options;
pub use mount::request::{Flags, MountError, MountRequest, UnmountError};
pub use mount::{FILE_SYSTEM_TYPE, detach, is_stale, mount, remount, unmount};
pub use peer::peer_groups;
pub use power::on_battery;
pub use proc::descriptors::{descriptor_path, link_target, path_of, reopen};
pub use proc::holders::{Holder, describe_holders, holders, holders_elsewhere, search_holders};
pub use proc::id_map::{maps_group, maps_user};
pub use proc::machine::cpu_model;
pub use proc::mountinfo::{Device, MountTable, MountedVault};
pub use proc::process::{cpu_of, groups_of, is_killed, is_running};
pub use process::{Background, Forked, Starting, fork_to_background, keep_secrets};
pub use regular::{Links, NotRegular, create_temporary, has_one_name, open_regular, read_regular};
pub use shown::{Show, Shown, harmless, harmless_json};
pub use signals::BlockedSignals;
pub use state_home::state_home;
pub use stream::open_input;
