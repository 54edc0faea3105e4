//! A key out of use, on a live mount: at once, for what is open too, and back again.

use std::fs;
use std::io;

use crate::common::files::{errno, open_rw, read_at};
use crate::common::{Allow, Mounted, Vault, pattern};
use crate::{described, key};

const LEN: usize = 100_000;

/// A mount with a second key in `dir`, and a file under each key.
fn mounted_with_two_keys(options: &[&str]) -> Mounted {
    let vault = Vault::init();
    let mut mount = vault.mount(options);
    mount.allow(Allow::Warnings);
    fs::create_dir(mount.join("dir")).unwrap();
    key(&vault, &["create"], &["second"]).ok();
    key(&vault, &["assign"], &["second", "dir"]).ok();
    fs::write(mount.join("dir/file"), pattern(0, LEN)).unwrap();
    fs::write(mount.join("file"), pattern(7, LEN)).unwrap();
    mount
}

fn refused<T>(result: io::Result<T>) {
    assert_eq!(errno(result), libc::ENOKEY);
}

fn goes_and_comes_back(away: &[&str], back: &[&[&str]], options: &[&str]) {
    let mount = mounted_with_two_keys(options);
    let vault = mount.vault().clone();
    let open = open_rw(mount.join("dir/file"));
    assert_eq!(read_at(&open, 0, LEN), pattern(0, LEN), "and now the kernel keeps it");
    // Not written back yet, where there is a cache: it must not be lost.
    std::os::unix::fs::FileExt::write_all_at(&open, b"changed", 50_000).unwrap();

    key(&vault, away, &["second"]).ok();
    let mut byte = [0];
    for at in [0, 50_000, 99_000] {
        refused(std::os::unix::fs::FileExt::read_at(&open, &mut byte, at));
    }
    refused(fs::read(mount.join("dir/file")));
    refused(fs::OpenOptions::new().write(true).open(mount.join("dir/file")).map(drop));
    refused(fs::write(mount.join("dir/new"), b"x"));
    // Names and attributes need no key, and the other key is in use.
    assert_eq!(fs::metadata(mount.join("dir/file")).unwrap().len(), LEN as u64);
    assert_eq!(fs::read_dir(mount.join("dir")).unwrap().count(), 1);
    assert_eq!(fs::read(mount.join("file")).unwrap(), pattern(7, LEN));
    fs::write(mount.join("other"), b"x").unwrap();

    for command in back {
        key(&vault, command, &["second"]).ok();
    }
    assert_eq!(described(&vault, "second")["state"], "enabled");
    let mut expected = pattern(0, LEN);
    expected[50_000..50_007].copy_from_slice(b"changed");
    assert_eq!(read_at(&open, 0, LEN), expected);
    assert_eq!(fs::read(mount.join("dir/file")).unwrap(), expected);
    fs::write(mount.join("dir/new"), b"x").unwrap();
    drop(open);
    mount.unmount();
    vault.verify();
}

#[test]
fn a_disabled_key_is_enabled_again() {
    goes_and_comes_back(&["disable"], &[&["enable"]], &[]);
}

#[test]
fn a_disabled_key_is_enabled_again_without_writeback() {
    goes_and_comes_back(&["disable"], &[&["enable"]], &["--no-writeback"]);
}

#[test]
fn a_key_pending_deletion_is_kept() {
    goes_and_comes_back(&["schedule-deletion"], &[&["cancel-deletion"], &["enable"]], &[]);
}

#[test]
fn a_mapping_loses_its_pages() {
    let mount = mounted_with_two_keys(&[]);
    let file = open_rw(mount.join("dir/file"));
    let mapping = crate::common::Mapping::shared(&file, LEN).unwrap();
    assert_eq!(mapping.bytes()[..100], pattern(0, 100));
    key(mount.vault(), &["disable"], &["second"]).ok();
    // A touch would end this process by SIGBUS; mincore(2) tells that the pages are gone, as
    // does a read through the same cache.
    let mut byte = [0];
    refused(std::os::unix::fs::FileExt::read_at(&file, &mut byte, 0));
    key(mount.vault(), &["enable"], &["second"]).ok();
    assert_eq!(mapping.bytes()[..100], pattern(0, 100));
}

#[test]
fn a_vault_whose_default_key_is_disabled_is_not_mounted_until_it_is_enabled() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"x").unwrap();
    mount.unmount();
    key(&vault, &["disable"], &[]).ok();
    let refused = vault.try_mount(&[]).err().expect("a mount without a key");
    assert_eq!(refused.code(), 8, "{refused}");
    assert!(refused.stderr.contains("disabled"), "{refused}");
    key(&vault, &["enable"], &[]).ok();
    let mount = vault.mount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"x");
}

/// How much can't be opened meanwhile is told, mounted or not, of the default key too.
#[test]
fn what_a_key_wraps_is_told_where_its_use_ends() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    for name in ["one", "two"] {
        fs::write(mount.join(name), b"content").unwrap();
    }
    let told =
        "It wraps the keys of 2 files and of the vault itself: nothing of that can be opened";
    let dry_run = key(&vault, &["schedule-deletion"], &["--dry-run"]).ok();
    assert!(dry_run.stdout.contains(told), "{dry_run}");
    mount.unmount();
    let json = crate::key_json(&vault, &["schedule-deletion"], &["--dry-run"]);
    assert_eq!((&json["wraps_files"], &json["wraps_vault_key"]), (&2.into(), &true.into()));
    let said = key(&vault, &["schedule-deletion"], &[]).ok();
    assert!(said.stdout.contains(told), "{said}");
}
