//! Mounting and unmounting a FUSE file system.
//!
//! The descriptor of the FUSE device goes to the session. The process that mounted also unmounts: it alone
//! knows whether another process has done so already.

pub(super) mod command;
mod fusermount;
pub(super) mod request;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{getegid, geteuid};

use super::directory::open_directory_at;
use super::proc::descriptors::{descriptor_path, path_of};
use request::{DEVICE, Flags, MountError, MountRequest, UnmountError};

/// The type under which vaults stand in the kernel's table of mounts.
pub const FILE_SYSTEM_TYPE: &str = "fuse.atrest";

/// Mounts, and returns the FUSE device on which the kernel waits for the handshake. As root by
/// mount(2); as anybody else, or without the capability, through fusermount3.
///
/// # Errors
/// [`MountError`]; nothing is then mounted.
pub fn mount(request: &MountRequest<'_>) -> Result<OwnedFd, MountError> {
    if geteuid().is_root() {
        match mount_directly(request) {
            Err(MountError::Refused(error)) if error.raw_os_error() == Some(libc::EPERM) => {}
            done => return done,
        }
    } else if !Path::new(DEVICE).exists() {
        return Err(MountError::NoDevice);
    }
    fusermount::mount(request)
}

fn mount_directly(request: &MountRequest<'_>) -> Result<OwnedFd, MountError> {
    let device = open_device()?;
    let mut data = format!(
        "fd={},rootmode=40000,user_id={},group_id={}",
        device.as_raw_fd(),
        geteuid().as_raw(),
        getegid().as_raw(),
    );
    for (is_set, option) in
        [(request.allow_other, ",allow_other"), (request.check_permissions, ",default_permissions")]
    {
        if is_set {
            data.push_str(option);
        }
    }
    let data = CString::new(data).map_err(|error| MountError::Refused(error.into()))?;
    let flags = kernel_flags(request.flags);
    let at = open_mount_point(request.mountpoint).map_err(MountError::Refused)?;
    let at = descriptor_path(&at);
    rustix::mount::mount(request.vault, &at, FILE_SYSTEM_TYPE, flags, &*data)
        .map_err(|errno| MountError::Refused(errno.into()))?;
    Ok(device.into())
}

/// Opens the directory `path`, which was resolved. Fails when it was replaced meanwhile: users who may write
/// to a directory above can put a symbolic link in its place.
fn open_mount_point(path: &Path) -> io::Result<OwnedFd> {
    let found = open_directory_at(CWD, path, OFlags::PATH)?;
    if path_of(&found).as_deref() != Some(path) {
        return Err(io::Error::other("the mount point was replaced meanwhile"));
    }
    Ok(found)
}

fn open_device() -> Result<File, MountError> {
    OpenOptions::new().read(true).write(true).open(DEVICE).map_err(|error| {
        match error.raw_os_error() {
            // ENODEV and ENXIO: the file is there and the module is not.
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => MountError::NoDevice,
            _ => MountError::Device(error),
        }
    })
}

fn kernel_flags(flags: Flags) -> MountFlags {
    let Flags { read_only, suid, dev, exec, atime, sync } = flags;
    [
        (read_only, MountFlags::RDONLY),
        (!suid, MountFlags::NOSUID),
        (!dev, MountFlags::NODEV),
        (!exec, MountFlags::NOEXEC),
        (!atime, MountFlags::NOATIME),
        (sync, MountFlags::SYNCHRONOUS),
    ]
    .into_iter()
    .filter_map(|(is_set, flag)| is_set.then_some(flag))
    .collect()
}

/// Changes the flags of a mount.
///
/// # Errors
/// Those of mount(2).
pub fn remount(mountpoint: &Path, flags: Flags) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(mountpoint, kernel_flags(flags), c"")?)
}

/// Unmounts.
///
/// # Errors
/// [`UnmountError`]; the mount is then as it was.
pub fn unmount(mountpoint: &Path) -> Result<(), UnmountError> {
    unmount_with(mountpoint, UnmountFlags::empty())
}

/// Takes a mount out of the tree at once. Processes that use it can finish (umount2(2), MNT_DETACH).
///
/// # Errors
/// [`UnmountError`]; the mount is then as it was.
pub fn detach(mountpoint: &Path) -> Result<(), UnmountError> {
    unmount_with(mountpoint, UnmountFlags::DETACH)
}

fn unmount_with(mountpoint: &Path, flags: UnmountFlags) -> Result<(), UnmountError> {
    match rustix::mount::unmount(mountpoint, flags | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => fusermount::unmount(mountpoint, flags),
        Err(Errno::BUSY) => Err(UnmountError::Busy),
        Err(Errno::INVAL | Errno::NOENT) => Err(UnmountError::NotMounted),
        Err(errno) => Err(UnmountError::Refused(errno.into())),
    }
}

/// Whether a mount's daemon is gone: by statfs(2), which the kernel never answers from its caches as it does
/// stat(2).
pub fn is_stale(mountpoint: &Path) -> bool {
    matches!(rustix::fs::statfs(mountpoint), Err(Errno::NOTCONN | Errno::CONNABORTED))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_mount_honours_neither_set_user_id_nor_devices_unless_told_to() {
        assert_eq!(kernel_flags(Flags::default()), MountFlags::NOSUID | MountFlags::NODEV);
        let all =
            Flags { read_only: true, suid: true, dev: true, exec: false, atime: false, sync: true };
        let expected =
            MountFlags::SYNCHRONOUS | MountFlags::RDONLY | MountFlags::NOEXEC | MountFlags::NOATIME;
        assert_eq!(kernel_flags(all), expected);
    }

    #[test]
    fn a_link_in_the_place_of_a_mount_point_is_not_followed() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        let (above, other) = (root.join("above"), root.join("other"));
        let point = above.join("point");
        for dir in [&point, &other.join("point")] {
            fs::create_dir_all(dir).unwrap();
        }
        open_mount_point(&point).unwrap();
        fs::rename(&above, root.join("moved")).unwrap();
        std::os::unix::fs::symlink(&other, &above).unwrap();
        let refused = open_mount_point(&point).unwrap_err();
        assert!(refused.to_string().contains("was replaced"), "{refused}");
    }

    #[test]
    fn a_plain_directory_is_neither_stale_nor_mounted() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!is_stale(directory.path()));
        let error = unmount(directory.path()).unwrap_err();
        assert!(matches!(error, UnmountError::NotMounted | UnmountError::Helper(_)), "{error}");
    }
}
