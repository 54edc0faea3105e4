//! Mounting through fusermount3, the set-user-ID program that mounts FUSE file systems for users.

use std::ffi::{OsStr, OsString};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::mount::UnmountFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType,
    recvmsg, socketpair,
};

use super::request::{Flags, MountError, MountRequest, UnmountError};

const PROGRAM: &str = "fusermount3";

/// The number of the socket on which the program sends back the device (libfuse, mount_util.c).
const SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// Mounts, and returns the FUSE device.
pub fn mount(request: &MountRequest<'_>) -> Result<OwnedFd, MountError> {
    let cannot_run = |error: io::Error| MountError::Helper(error.to_string());
    // Their end stays open over the exec; there are no threads yet whose programs could get it too.
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::empty(), None)
            .map_err(|errno| cannot_run(errno.into()))?;
    fcntl_setfd(&ours, FdFlags::CLOEXEC).map_err(|errno| cannot_run(errno.into()))?;
    let child = Command::new(PROGRAM)
        .arg("-o")
        .arg(options(request))
        .arg("--")
        .arg(request.mountpoint)
        .env(SOCKET_VARIABLE, theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => MountError::NoHelper,
            _ => cannot_run(error),
        })?;
    drop(theirs);
    let device = receive_device(&ours);
    let failure = wait(child);
    match (device, failure) {
        (Ok(Some(device)), None) => Ok(device),
        (_, Some(said)) if said.contains("user_allow_other") => Err(MountError::AllowOtherRefused),
        (_, Some(said)) => Err(MountError::Helper(said)),
        (Ok(None), None) => Err(MountError::Helper("gave no device".to_owned())),
        (Err(error), None) => Err(cannot_run(error)),
    }
}

/// Unmounts, or detaches where `flags` say so.
pub fn unmount(mountpoint: &Path, flags: UnmountFlags) -> Result<(), UnmountError> {
    let mut command = Command::new(PROGRAM);
    command.arg("-u");
    if flags.contains(UnmountFlags::DETACH) {
        command.arg("-z");
    }
    let spawned = command
        .arg("--")
        .arg(mountpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let child = spawned.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => UnmountError::NoHelper,
        _ => UnmountError::Helper(error.to_string()),
    })?;
    match wait(child) {
        None => Ok(()),
        Some(said) if said.contains("Device or resource busy") => Err(UnmountError::Busy),
        Some(said) if said.contains("not found in") || said.contains("Invalid argument") => {
            Err(UnmountError::NotMounted)
        }
        Some(said) => Err(UnmountError::Helper(said)),
    }
}

/// Waits for the program's end: `None` for success, else the first line that it printed.
fn wait(child: Child) -> Option<String> {
    match child.wait_with_output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let line = said.lines().next().unwrap_or_default();
            let line = line.strip_prefix("fusermount3: ").unwrap_or(line).trim();
            Some(if line.is_empty() { output.status.to_string() } else { line.to_owned() })
        }
        Err(error) => Some(error.to_string()),
    }
}

/// The value of `-o`. Commas and backslashes in the vault's path are escaped.
fn options(request: &MountRequest<'_>) -> OsString {
    let Flags { read_only, suid, dev, exec, atime, sync } = request.flags;
    let mut options = b"fsname=".to_vec();
    for byte in request.vault.as_os_str().as_bytes() {
        if matches!(byte, b',' | b'\\') {
            options.push(b'\\');
        }
        options.push(*byte);
    }
    options.extend_from_slice(b",subtype=atrest");
    for (is_set, option) in [
        (request.check_permissions, "default_permissions"),
        (request.allow_other, "allow_other"),
        (read_only, "ro"),
        (suid, "suid"),
        (dev, "dev"),
        (!exec, "noexec"),
        (!atime, "noatime"),
        (sync, "sync"),
    ] {
        if is_set {
            options.push(b',');
            options.extend_from_slice(OsStr::new(option).as_bytes());
        }
    }
    OsString::from_vec(options)
}

/// The descriptor that the program sends; None if it ended without.
fn receive_device(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    loop {
        let mut data = [IoSliceMut::new(&mut byte)];
        match recvmsg(socket, &mut data, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let device = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_add_an_option() {
        let request = MountRequest {
            vault: Path::new("/v,suid\\"),
            mountpoint: Path::new("/m"),
            allow_other: false,
            check_permissions: false,
            flags: Flags::default(),
        };
        assert_eq!(options(&request), "fsname=/v\\,suid\\\\,subtype=atrest");
    }

    #[test]
    fn the_flags_of_the_request_are_passed_on() {
        let request = MountRequest {
            vault: Path::new("/v"),
            mountpoint: Path::new("/m"),
            allow_other: true,
            check_permissions: true,
            flags: Flags {
                read_only: true,
                suid: true,
                dev: true,
                exec: false,
                atime: false,
                sync: true,
            },
        };
        let expected = "fsname=/v,subtype=atrest,default_permissions,allow_other,ro,suid,dev,noexec,noatime,sync";
        assert_eq!(options(&request), expected);
    }
}
