//! Who keeps a mount busy: a search through `/proc`.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};

use super::mountinfo::{Device, MountTable};

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
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, command } => write!(f, "{command} (process {pid})"),
            Self::Mount(path) => write!(f, "the mount on {}", path.display()),
        }
    }
}

/// Who holds the mount of a device at a mount point, as far as this user may know: of other
/// users' processes only root learns.
pub fn holders(mountpoint: &Path, device: Device) -> Vec<Holder> {
    let mut holders = Vec::new();
    if let Ok(table) = MountTable::read() {
        holders.extend(table.below(mountpoint).map(|path| Holder::Mount(path.to_owned())));
    }
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for (pid, process) in processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())))
    {
        if holds(&process, device) {
            let command = fs::read_to_string(process.join("comm")).unwrap_or_default();
            holders.push(Holder::Process { pid, command: command.trim_end().to_owned() });
        }
    }
    holders
}

fn holds(process: &Path, device: Device) -> bool {
    let descriptors = || fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    ["cwd", "root", "exe"].iter().any(|link| is_on(&process.join(link), device))
        || descriptors().any(|entry| is_on(&entry.path(), device))
        || maps(process, device)
}

/// Whether the file behind a link of `/proc` lies on the device. The mount's daemon isn't asked:
/// it may be gone, or the one that waits for this very answer.
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
}
