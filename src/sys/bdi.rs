//! The kernel's limits on what a mount may read ahead and keep dirty.

use std::fs;
use std::io;

use super::mountinfo::Device;

/// FUSE mounts start with a strict limit of 1 % of the dirty memory: writers then wait for the
/// daemon although memory is free. The vault's mount is as trusted as a disk. A read-ahead of
/// several requests keeps every thread at work while the program takes what it has.
/// (Linux Documentation/ABI/testing/sysfs-class-bdi)
const SETTINGS: [(&str, &str); 3] =
    [("strict_limit", "0"), ("max_ratio", "100"), ("read_ahead_kb", "4096")];

/// A setting that the kernel, or the lack of privilege, did not allow.
#[derive(Debug)]
pub struct Refused {
    /// The setting's name in `/sys/class/bdi`.
    pub setting: &'static str,
    /// Why not.
    pub error: io::Error,
}

/// Frees a mount from the limits that FUSE mounts start with. It is to be called after the FUSE
/// handshake, which sets the read-ahead. Works as root only; returns what stayed as it was.
pub fn tune(device: Device) -> Vec<Refused> {
    let write = |(setting, value)| {
        let path = format!("/sys/class/bdi/{device}/{setting}");
        fs::write(path, value).err().map(|error| Refused { setting, error })
    };
    SETTINGS.into_iter().filter_map(write).collect()
}
