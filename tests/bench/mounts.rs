//! The kernel's mount table, and the one way this bench unmounts.

use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use crate::error::{Context, Error, Result};

/// A line of /proc/self/mountinfo.
pub struct MountEntry {
    pub mountpoint: PathBuf,
    pub fstype: String,
}

/// Every mount of this namespace, oldest first.
pub fn all() -> Result<Vec<MountEntry>> {
    let table = fs::read("/proc/self/mountinfo").with(|| "/proc/self/mountinfo".into())?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(entry).collect())
}

/// The filesystem type of what holds `path`.
pub fn fstype_of(path: &Path) -> Result<String> {
    let holder = all()?
        .into_iter()
        .filter(|mount| path.starts_with(&mount.mountpoint))
        .max_by_key(|mount| mount.mountpoint.as_os_str().len());
    Ok(holder.map_or_else(|| "unknown".into(), |mount| mount.fstype))
}

/// Whether something is mounted at exactly `path`.
pub fn is_mountpoint(path: &Path) -> Result<bool> {
    Ok(all()?.iter().any(|mount| mount.mountpoint == path))
}

/// Unmounts `path`, waiting up to `patience` while it is busy.
pub fn unmount(path: &Path, patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt(path, false) {
            Err(_) if Instant::now() < deadline && is_mountpoint(path)? => {
                sleep(Duration::from_millis(20))
            }
            outcome => return outcome,
        }
    }
}

/// Takes `path` out of the tree at once, whoever still uses it.
pub fn detach(path: &Path) -> Result<()> {
    attempt(path, true)
}

fn attempt(path: &Path, lazy: bool) -> Result<()> {
    let doing = || format!("unmounting {}", path.display());
    if rustix::process::geteuid().is_root() {
        let flags = if lazy { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        return match rustix::mount::unmount(path, flags) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error).with(doing),
        };
    }
    let mut command = Command::new("fusermount3");
    command.arg(if lazy { "-uz" } else { "-u" }).arg("--").arg(path).stderr(Stdio::null());
    let status = command.status().with(doing)?;
    if status.success() { Ok(()) } else { Err(Error::new("fusermount3 refused")).with(doing) }
}

/// Fields of proc_pid_mountinfo(5): the fifth is the mount point, the first after " - " the type.
fn entry(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let mountpoint = unescaped(fields.nth(4)?);
    let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(MountEntry {
        mountpoint: PathBuf::from(std::ffi::OsString::from_vec(mountpoint)),
        fstype: std::ffi::OsStr::from_bytes(fstype).to_string_lossy().into_owned(),
    })
}

/// Undoes the kernel's three-digit octal escapes (`\040` for a space).
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|_| byte == b'\\');
        let code = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.unwrap_or(byte));
        rest = if code.is_some() { &tail[3..] } else { tail };
    }
    plain
}
