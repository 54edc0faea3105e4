//! The processes and mounts that keep a mount busy, by a search through /proc.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::mountinfo::{Device, MountTable};
use super::process::name_of;
use crate::sys::shown::Show;

/// How long a search may take.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);

/// Something that keeps a mount from being unmounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// A process that works in the mount, has a file of it open or runs a program from it.
    Process {
        /// Its number.
        pid: u32,
        /// Its name, as ps(1) shows it.
        command: String,
    },
    /// Another file system, mounted below.
    Mount(PathBuf),
    /// A process in another mount namespace, in which it is mounted too.
    Elsewhere {
        /// Its number.
        pid: u32,
        /// Its name.
        command: String,
    },
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "{command} (process {pid})"),
            Self::Mount(path) => write!(f, "the mount on {}", path.shown()),
            Self::Elsewhere { pid, command } => {
                write!(f, "{command} (process {pid}, in another mount namespace)")
            }
        }
    }
}

/// The holders of the mount of a device at a mount point. Processes of other users are seen by root alone.
pub fn holders(mountpoint: &Path, device: Device) -> Vec<Holder> {
    let mut holders = Vec::new();
    if let Ok(table) = MountTable::read() {
        holders.extend(table.below(mountpoint).map(|path| Holder::Mount(path.to_owned())));
    }
    for (pid, process) in processes() {
        if holds(&process, device) {
            holders.push(Holder::Process { pid, command: name_of(pid).unwrap_or_default() });
        }
    }
    holders
}

/// Runs a search for holders with a timeout: a read in /proc of a process that is stuck may block, and an
/// unmount must not wait for it.
pub fn search_holders(search: impl FnOnce() -> Vec<Holder> + Send + 'static) -> Vec<Holder> {
    let (found, finds) = mpsc::channel();
    // After the timeout the receiver is gone.
    let search = move || drop(found.send(search()));
    match thread::Builder::new().name("holders".to_owned()).spawn(search) {
        Ok(_) => finds.recv_timeout(SEARCH_TIMEOUT).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Holders as text for a person.
pub fn describe_holders(holders: &[Holder]) -> String {
    /// More are only counted.
    const SHOWN: usize = 8;
    if holders.is_empty() {
        return "somebody whom only root can see".to_owned();
    }
    let mut shown: Vec<_> = holders.iter().take(SHOWN).map(ToString::to_string).collect();
    if holders.len() > SHOWN {
        shown.push(format!("{} more", holders.len() - SHOWN));
    }
    shown.join(", ")
}

/// One process of each other mount namespace that has a vault's mount: there it stays when it is unmounted
/// here, and its daemon goes on. Processes of other users are seen by root alone, and a namespace without
/// processes is not seen at all. (mount_namespaces(7))
pub fn holders_elsewhere(vault: &Path, device: Device) -> Vec<Holder> {
    let namespace = |process: &Path| fs::read_link(process.join("ns/mnt")).ok();
    let mut seen: HashSet<PathBuf> = namespace(Path::new("/proc/self")).into_iter().collect();
    let mut holders = Vec::new();
    for (pid, process) in processes() {
        let is_new = namespace(&process).is_some_and(|namespace| seen.insert(namespace));
        let table = || fs::read(process.join("mountinfo")).map(|bytes| MountTable::parse(&bytes));
        if is_new && table().is_ok_and(|table| table.has_mount_of(vault, device)) {
            holders.push(Holder::Elsewhere { pid, command: name_of(pid).unwrap_or_default() });
        }
    }
    holders
}

fn processes() -> impl Iterator<Item = (u32, PathBuf)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
}

fn holds(process: &Path, device: Device) -> bool {
    let descriptors = || fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    ["cwd", "root", "exe"].iter().any(|link| is_on(&process.join(link), device))
        || descriptors().any(|entry| is_on(&entry.path(), device))
        || maps(process, device)
}

/// Whether the file behind a link of /proc lies on the device. The call sends no request to the mount's
/// daemon (AT_STATX_DONT_SYNC), which may be gone, or wait for this very search.
fn is_on(link: &Path, device: Device) -> bool {
    let Ok(stat) = statx(CWD, link, AtFlags::STATX_DONT_SYNC, StatxFlags::empty()) else {
        return false;
    };
    (stat.stx_dev_major, stat.stx_dev_minor) == (device.major, device.minor)
}

/// Whether the process has a file of the device mapped: mappings outlive their descriptors.
fn maps(process: &Path, device: Device) -> bool {
    let Ok(maps) = fs::read(process.join("maps")) else { return false };
    let device = format!("{:02x}:{:02x}", device.major, device.minor);
    maps.split(|byte| *byte == b'\n')
        .any(|line| line.split(|byte| *byte == b' ').nth(3) == Some(device.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_process_holds_the_file_system_of_an_open_file() {
        let shared = Path::new("/dev/shm");
        let file = tempfile::tempfile_in(shared).expect("a file in memory");
        let dev = file.metadata().expect("its device").dev();
        let device = Device { major: rustix::fs::major(dev), minor: rustix::fs::minor(dev) };
        let me = |holder: &Holder| matches!(holder, Holder::Process { pid, command } if *pid == std::process::id() && !command.is_empty());
        assert!(holders(shared, device).iter().any(me));
        let nowhere = Device { major: 4095, minor: 1 };
        assert!(holders(Path::new("/nowhere"), nowhere).is_empty());
    }

    #[test]
    fn a_crowd_is_cut_short() {
        let holder = |pid| Holder::Process { pid, command: "sh".to_owned() };
        assert_eq!(describe_holders(&[holder(1), holder(2)]), "sh (process 1), sh (process 2)");
        let crowd: Vec<_> = (0..10).map(holder).collect();
        assert!(describe_holders(&crowd).ends_with("sh (process 7), 2 more"));
        assert!(describe_holders(&[]).contains("only root"));
    }
}
