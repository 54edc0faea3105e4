//! The kernel's limits on a mount's read-ahead and dirty pages.

use std::fs;
use std::io;

use super::cgroup::memory_limit;
use super::proc::mountinfo::Device;

/// A read-ahead of several requests keeps every thread at work while the program consumes the data.
const READ_AHEAD_KIB: &str = "4096";

/// Of a control group's memory, the part that may be dirty pages of the mount. The kernel knows no
/// limit of dirty pages for a control group on FUSE: where writer and daemon share a group whose
/// memory is all dirty, the daemon has none left to write them back, and is killed.
const DIRTY_PART: u64 = 8;

/// A setting that the kernel, or the lack of privilege, did not allow.
#[derive(Debug)]
pub struct Refused {
    /// The setting's name in `/sys/class/bdi`.
    pub setting: &'static str,
    /// The error.
    pub error: io::Error,
}

/// Frees a mount from the limits that FUSE mounts start with, as far as this process's control
/// group has memory for it. It is to be called after the FUSE handshake, which sets the read-ahead.
/// Works as root only; returns what stayed as it was.
pub fn tune(device: Device) -> Vec<Refused> {
    let mut refused = set_dirty_limit(device, None);
    refused.extend(set(device, "read_ahead_kb", READ_AHEAD_KIB));
    refused
}

/// Limits the dirty pages of a mount to so many bytes, whatever memory is free; `None` sets what a
/// mount has after [`tune`]. Returns what stayed as it was.
///
/// FUSE mounts start with a strict limit of 1 % of the dirty memory: writers then wait for the
/// daemon although memory is free. The vault's mount is as trusted as a disk.
/// (Linux Documentation/ABI/testing/sysfs-class-bdi)
pub fn set_dirty_limit(device: Device, bytes: Option<u64>) -> Vec<Refused> {
    let of_group = memory_limit().map(|limit| limit / DIRTY_PART);
    let settings = match bytes.into_iter().chain(of_group).min() {
        // First the limit itself: between the two, the one that was in force is.
        Some(bytes) => [("max_bytes", bytes.to_string()), ("strict_limit", "1".to_owned())],
        None => [("strict_limit", "0".to_owned()), ("max_ratio", "100".to_owned())],
    };
    settings.iter().filter_map(|(setting, value)| set(device, setting, value)).collect()
}

fn set(device: Device, setting: &'static str, value: &str) -> Option<Refused> {
    let path = format!("/sys/class/bdi/{device}/{setting}");
    fs::write(path, value).err().map(|error| Refused { setting, error })
}
