//! `--read-only`: every change is refused and the vault keeps every byte.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::common::files::errno;
use crate::common::{Vault, pattern};

/// Every file below, with its content and mtime.
fn snapshot(dir: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            all.extend(snapshot(&path));
        } else {
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            all.insert(path, (content, meta.mtime(), meta.mtime_nsec()));
        }
    }
    all
}

#[test]
fn a_read_only_mount_reads_all_and_changes_nothing() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::create_dir(mount.join("dir")).unwrap();
    fs::write(mount.join("dir/file"), pattern(0, 20_000)).unwrap();
    symlink("file", mount.join("dir/link")).unwrap();
    mount.unmount();
    let before = snapshot(&vault.path());
    let mount = vault.mount(&["--read-only", "--no-trail"]);
    let status = vault.run(&["status"]).ok();
    assert!(status.stdout.contains(", read-only"), "{status}");
    assert!(status.stdout.contains("none (--no-trail)"), "{status}");
    let file = mount.join("dir/file");
    assert_eq!(fs::read(&file).unwrap(), pattern(0, 20_000));
    assert_eq!(fs::read(mount.join("dir/link")).unwrap(), pattern(0, 20_000));
    assert_eq!(errno(OpenOptions::new().write(true).open(&file)), libc::EROFS);
    assert_eq!(errno(fs::write(mount.join("new"), b"x")), libc::EROFS);
    assert_eq!(errno(fs::create_dir(mount.join("new"))), libc::EROFS);
    assert_eq!(errno(fs::remove_file(&file)), libc::EROFS);
    assert_eq!(errno(fs::rename(&file, mount.join("new"))), libc::EROFS);
    assert_eq!(errno(fs::hard_link(&file, mount.join("new"))), libc::EROFS);
    assert_eq!(errno(symlink("x", mount.join("new"))), libc::EROFS);
    assert_eq!(errno(fs::set_permissions(&file, PermissionsExt::from_mode(0o600))), libc::EROFS);
    let set = rustix::fs::setxattr(&file, "user.x", b"x", rustix::fs::XattrFlags::empty());
    assert_eq!(set.unwrap_err(), rustix::io::Errno::ROFS);
    mount.unmount();
    assert!(snapshot(&vault.path()) == before, "a read-only mount changed the vault");
}
