//! /proc/self/mountinfo: the mounts.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::sys::mount::FILE_SYSTEM_TYPE;
use crate::sys::mount::request::Flags;

/// The number of a mounted file system, as stat(2) gives it for each file on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Device {
    /// The major number; 0 for a file system without a device.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// A mount of a vault, by this or any other process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedVault {
    /// The mount point.
    pub mountpoint: PathBuf,
    /// The vault's directory.
    pub vault: PathBuf,
    /// The mount's device number.
    pub device: Device,
    /// The user whose daemon serves it.
    pub user_id: u32,
}

/// All mounts that this process can see, in the order in which they were made.
#[derive(Debug)]
pub struct MountTable {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    device: Device,
    root: Vec<u8>,
    mountpoint: PathBuf,
    options: Vec<u8>,
    file_system_type: Vec<u8>,
    source: PathBuf,
    super_options: Vec<u8>,
}

impl MountTable {
    /// Reads the table of this process's mount namespace.
    ///
    /// # Errors
    /// Those of reading `/proc/self/mountinfo`.
    pub fn read() -> io::Result<Self> {
        Ok(Self::parse(&fs::read("/proc/self/mountinfo")?))
    }

    pub(in crate::sys) fn parse(bytes: &[u8]) -> Self {
        Self { entries: bytes.split(|byte| *byte == b'\n').filter_map(parse_line).collect() }
    }

    /// The mounts of vaults.
    pub fn vaults(&self) -> impl Iterator<Item = MountedVault> {
        self.entries.iter().filter_map(Entry::as_vault)
    }

    /// The vault that is mounted on a path: of several mounts, the uppermost; `None` if that is no vault.
    pub fn vault_at(&self, mountpoint: &Path) -> Option<MountedVault> {
        self.entries.iter().rfind(|entry| entry.mountpoint == mountpoint)?.as_vault()
    }

    /// The flags of what is mounted on a path, by its own options and those of its filesystem.
    pub fn flags_at(&self, mountpoint: &Path) -> Option<Flags> {
        let entry = self.entries.iter().rfind(|entry| entry.mountpoint == mountpoint)?;
        let among = |options: &[u8], name: &str| {
            options.split(|byte| *byte == b',').any(|option| option == name.as_bytes())
        };
        let has = |name| among(&entry.options, name);
        Some(Flags {
            read_only: has("ro") || among(&entry.super_options, "ro"),
            suid: !has("nosuid"),
            dev: !has("nodev"),
            exec: !has("noexec"),
            atime: !has("noatime"),
            sync: among(&entry.super_options, "sync"),
        })
    }

    /// The mounts of one vault, by the path of its directory.
    pub fn mounts_of(&self, vault: &Path) -> impl Iterator<Item = MountedVault> {
        self.vaults().filter(move |mounted| mounted.vault == vault)
    }

    /// The root within it, the mount point and the filesystem's own options of each mount of a type.
    pub(in crate::sys) fn of_type(
        &self,
        kind: &str,
    ) -> impl Iterator<Item = (PathBuf, PathBuf, &[u8])> {
        let matching =
            self.entries.iter().filter(move |entry| entry.file_system_type == kind.as_bytes());
        matching.map(|entry| {
            let root = OsString::from_vec(entry.root.clone()).into();
            (root, entry.mountpoint.clone(), entry.super_options.as_slice())
        })
    }

    /// Whether a vault's mount, or a part of it, is in the table.
    pub(in crate::sys) fn has_mount_of(&self, vault: &Path, device: Device) -> bool {
        self.entries.iter().any(|entry| {
            entry.device == device
                && entry.source == vault
                && entry.file_system_type == FILE_SYSTEM_TYPE.as_bytes()
        })
    }

    /// Whether anything is mounted on a path.
    pub fn is_mountpoint(&self, path: &Path) -> bool {
        self.entries.iter().any(|entry| entry.mountpoint == path)
    }

    /// The mount points below a path, in the order in which they were mounted.
    pub fn below(&self, path: &Path) -> impl Iterator<Item = &Path> {
        let mountpoints = self.entries.iter().map(|entry| entry.mountpoint.as_path());
        mountpoints.filter(move |mountpoint| *mountpoint != path && mountpoint.starts_with(path))
    }
}

impl Entry {
    fn as_vault(&self) -> Option<MountedVault> {
        let is_whole = self.root == b"/";
        if !is_whole || self.file_system_type != FILE_SYSTEM_TYPE.as_bytes() {
            return None;
        }
        let user_id = self
            .super_options
            .split(|byte| *byte == b',')
            .find_map(|option| number(option.strip_prefix(b"user_id=")?));
        Some(MountedVault {
            mountpoint: self.mountpoint.clone(),
            vault: self.source.clone(),
            device: self.device,
            user_id: user_id?,
        })
    }
}

/// `36 35 98:0 /root /mountpoint options [optional fields] - type source super-options`
fn parse_line(line: &[u8]) -> Option<Entry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = fields.nth(2)?;
    let root = unescape(fields.next()?);
    let mountpoint = path(fields.next()?);
    let options = fields.next()?.to_vec();
    fields.find(|field| *field == b"-")?;
    let colon = device.iter().position(|byte| *byte == b':')?;
    Some(Entry {
        device: Device { major: number(&device[..colon])?, minor: number(&device[colon + 1..])? },
        root,
        mountpoint,
        options,
        file_system_type: unescape(fields.next()?),
        source: path(fields.next()?),
        super_options: unescape(fields.next()?),
    })
}

fn number(digits: &[u8]) -> Option<u32> {
    str::from_utf8(digits).ok()?.parse().ok()
}

fn path(field: &[u8]) -> PathBuf {
    OsString::from_vec(unescape(field)).into()
}

/// Undoes the kernel's escapes: space, tab, newline and backslash (and more in a source) are
/// written as a backslash and three octal digits.
pub(in crate::sys) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let escaped = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'))
            }
            _ => None,
        };
        plain.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[3..] } else { tail };
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
22 1 253:0 / / rw,relatime - ext4 /dev/root rw
31 22 0:29 / /sys/fs/cgroup rw,nosuid shared:4 master:1 - tmpfs tmpfs rw,size=4096k
90 22 0:53 / /mnt/my\\040vault rw,nosuid,nodev shared:7 - fuse.atrest /srv/a\\134b\\011c rw,user_id=1000,group_id=1000,default_permissions
91 22 0:54 / /mnt/other rw - fuse.sshfs host: rw,user_id=0,group_id=0
92 22 0:53 /sub /mnt/bind rw - fuse.atrest /srv/v rw,user_id=0,group_id=0
93 90 0:60 / /mnt/my\\040vault/deep rw - tmpfs tmpfs rw
";

    #[test]
    fn a_mounted_vault_is_found_with_its_escapes_undone() {
        let table = MountTable::parse(TABLE.as_bytes());
        let vaults: Vec<_> = table.vaults().collect();
        assert_eq!(
            vaults,
            [MountedVault {
                mountpoint: "/mnt/my vault".into(),
                vault: "/srv/a\\b\tc".into(),
                device: Device { major: 0, minor: 53 },
                user_id: 1000,
            }]
        );
        assert_eq!(table.vault_at(Path::new("/mnt/my vault")).as_ref(), vaults.first());
        assert_eq!(table.flags_at(Path::new("/mnt/my vault")), Some(Flags::default()));
        assert_eq!(table.mounts_of(Path::new("/srv/a\\b\tc")).count(), 1);
    }

    #[test]
    fn other_mounts_are_told_apart() {
        let table = MountTable::parse(TABLE.as_bytes());
        assert_eq!(table.vault_at(Path::new("/mnt/other")), None);
        assert_eq!(table.vault_at(Path::new("/mnt/bind")), None);
        assert!(table.is_mountpoint(Path::new("/mnt/other")));
        assert!(!table.is_mountpoint(Path::new("/mnt")));
        let below: Vec<_> = table.below(Path::new("/mnt/my vault")).collect();
        assert_eq!(below, [Path::new("/mnt/my vault/deep")]);
    }

    #[test]
    fn what_lies_on_top_hides_the_vault() {
        let table = format!("{TABLE}94 90 0:61 / /mnt/my\\040vault rw - tmpfs tmpfs rw\n");
        let table = MountTable::parse(table.as_bytes());
        assert_eq!(table.vault_at(Path::new("/mnt/my vault")), None);
    }

    #[test]
    fn damaged_escapes_and_lines_are_taken_as_they_are() {
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\777\\040"), b"\\777 ");
        assert_eq!(MountTable::parse(b"\n1 2 x / /a\n").entries.len(), 0);
    }

    #[test]
    fn the_table_of_this_process_has_a_root() {
        assert!(MountTable::read().unwrap().is_mountpoint(Path::new("/")));
    }
}
