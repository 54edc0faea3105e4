//! Another filesystem mounted inside the vault's directory.

use std::fs;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::common::files::{errno, lstat};
use crate::common::{Vault, require_root};

struct Below(PathBuf);

impl Drop for Below {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn what_is_mounted_below_the_vault_is_refused_and_nothing_is_half_made() {
    require_root();
    let vault = Vault::init();
    let mounted = vault.mount(&[]);
    let place = mounted.join("place");
    fs::create_dir(&place).unwrap();
    fs::create_dir(mounted.join("dir")).unwrap();
    fs::write(mounted.join("file"), b"x").unwrap();
    let mounted = mounted.remount(&[]);
    let below = Below(vault.path().join("place"));
    mount("tmpfs", &below.0, "tmpfs", MountFlags::empty(), None).unwrap();
    fs::write(below.0.join("foreign"), b"x").unwrap();
    assert_eq!(errno(fs::symlink_metadata(&place)), libc::EOPNOTSUPP);
    assert_eq!(errno(fs::read_dir(&place)), libc::EOPNOTSUPP);
    assert_eq!(errno(fs::write(place.join("new"), b"x")), libc::EOPNOTSUPP);
    assert_eq!(errno(fs::remove_dir(&place)), libc::EOPNOTSUPP);
    errno(fs::rename(mounted.join("dir"), &place));
    errno(fs::hard_link(mounted.join("file"), &place));
    errno(fs::create_dir(&place));
    assert_eq!(fs::read_dir(&below.0).unwrap().count(), 1);
    // What is beside it is as usual, and so is all once it is gone.
    assert_eq!(fs::read(mounted.join("file")).unwrap(), b"x");
    assert!(lstat(mounted.join("dir")).is_dir());
    drop(below);
    let mounted = mounted.remount(&[]);
    fs::write(mounted.join("place/new"), b"x").unwrap();
}
