//! Requests to mount, and the errors of mounting and unmounting.

use std::io;
use std::path::Path;

/// The kernel's device for FUSE.
pub const DEVICE: &str = "/dev/fuse";

/// A mount to be made. Both paths are absolute.
#[derive(Debug, Clone)]
pub struct MountRequest<'a> {
    /// The vault's directory.
    pub vault: &'a Path,
    /// The directory on which it is mounted.
    pub mountpoint: &'a Path,
    /// Other users than the daemon's may enter.
    pub allow_other: bool,
    /// The kernel compares modes and owners with the caller's user and groups. Where only root may enter, the
    /// check can be left out, which saves a request about the directory after each change in it.
    pub check_permissions: bool,
    /// The general flags of a mount.
    pub flags: Flags,
}

/// The flags of mount(8) that a mount of a vault takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flags {
    /// Nothing may be written.
    pub read_only: bool,
    /// The set-user-ID and set-group-ID bits of programs take effect.
    pub suid: bool,
    /// Device files are devices.
    pub dev: bool,
    /// Programs may be run.
    pub exec: bool,
    /// Times of access are kept.
    pub atime: bool,
    /// A write returns when it is durable.
    pub sync: bool,
}

impl Default for Flags {
    fn default() -> Self {
        Self { read_only: false, suid: false, dev: false, exec: true, atime: true, sync: false }
    }
}

/// Why a mount could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel has no FUSE, or the container no device for it.
    #[error(
        "there is no {DEVICE}: the kernel module fuse is not loaded, or this container has no FUSE"
    )]
    NoDevice,
    /// The device can't be opened by this user.
    #[error("{DEVICE} can't be opened: {0}")]
    Device(io::Error),
    /// A user other than root mounts through fusermount3.
    #[error(
        "there is no fusermount3, which a user other than root needs to mount: install the package fuse3"
    )]
    NoHelper,
    /// `--allow-other` by a user other than root is off by default.
    #[error("--allow-other is only for root, unless /etc/fuse.conf has the line user_allow_other")]
    AllowOtherRefused,
    /// fusermount3 could not be run, or failed.
    #[error("fusermount3: {0}")]
    Helper(String),
    /// mount(2) failed.
    #[error("mount: {0}")]
    Refused(io::Error),
}

/// Why a mount could not be unmounted.
#[derive(Debug, thiserror::Error)]
pub enum UnmountError {
    /// A process has a file or a directory of it open.
    #[error("the mount is in use")]
    Busy,
    /// Nothing is mounted there.
    #[error("nothing is mounted there")]
    NotMounted,
    /// A user other than root unmounts through fusermount3.
    #[error(
        "there is no fusermount3, which a user other than root needs to unmount: install the package fuse3"
    )]
    NoHelper,
    /// fusermount3 could not be run, or failed.
    #[error("fusermount3: {0}")]
    Helper(String),
    /// umount2(2) failed.
    #[error("umount: {0}")]
    Refused(io::Error),
}
