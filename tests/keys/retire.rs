//! An old version goes for good, once nothing refers to it.

use std::fs;

use crate::common::Vault;
use crate::common::files::open_rw;
use crate::{described, key, key_json, version_of};

#[test]
fn a_version_that_a_file_refers_to_stays() {
    for mounted in [false, true] {
        let vault = Vault::init();
        let mount = vault.mount(&[]);
        fs::create_dir(mount.join("dir")).unwrap();
        fs::write(mount.join("dir/old"), b"old").unwrap();
        let kept_open = open_rw(mount.join("dir/old"));
        key(&vault, &["rotate"], &[]).ok();
        fs::write(mount.join("new"), b"new").unwrap();
        let (mount, kept_open) = if mounted {
            (Some(mount), Some(kept_open))
        } else {
            drop(kept_open);
            mount.unmount();
            (None, None)
        };
        for dry_run in [&["--version", "1", "--dry-run"][..], &["--version", "1"]] {
            let refused = key(&vault, &["retire"], dry_run);
            assert_eq!(refused.code(), 8, "{refused}");
            assert!(refused.stderr.contains("dir/old"), "{refused}");
        }
        assert_eq!(described(&vault, "default")["versions"][0]["state"], "enabled");
        let done = key_json(&vault, &["rewrap"], &[]);
        // The file, and the vault's own key.
        assert_eq!((&done["rewrapped"], &done["already_new"]), (&2.into(), &1.into()), "{done}");
        assert_eq!(version_of(&vault.path().join("dir/old")), 2);
        key(&vault, &["retire"], &["--version", "1"]).ok();
        let versions = &described(&vault, "default")["versions"];
        assert_eq!(
            (&versions[0]["state"], &versions[1]["state"]),
            (&"retired".into(), &"current".into())
        );
        drop(kept_open);
        let mount = mount.map_or_else(|| vault.mount(&[]), |mount| mount.remount(&[]));
        assert_eq!(fs::read(mount.join("dir/old")).unwrap(), b"old");
        assert_eq!(fs::read(mount.join("new")).unwrap(), b"new");
        mount.unmount();
        vault.verify();
    }
}

#[test]
fn an_open_file_without_a_name_counts() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("gone"), b"still read").unwrap();
    let open = open_rw(mount.join("gone"));
    fs::remove_file(mount.join("gone")).unwrap();
    key(&vault, &["rotate"], &[]).ok();
    let refused = key(&vault, &["retire"], &["--version", "1"]);
    assert_eq!(refused.code(), 8, "{refused}");
    key(&vault, &["rewrap"], &[]).ok();
    key(&vault, &["retire"], &["--version", "1"]).ok();
    assert_eq!(crate::common::files::read_at(&open, 0, 10), b"still read");
}

#[test]
fn an_unreadable_file_keeps_every_version() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"x").unwrap();
    mount.unmount();
    fs::write(vault.path().join("not-sealed"), vec![1; 5000]).unwrap();
    key(&vault, &["rotate"], &[]).ok();
    let done = key(&vault, &["rewrap"], &[]);
    assert_eq!(done.code(), 1, "{done}");
    assert!(done.stdout.contains("2 rewrapped") && done.stderr.contains("not-sealed"), "{done}");
    let refused = key(&vault, &["retire"], &["--version", "1"]);
    assert_eq!(refused.code(), 8, "{refused}");
    assert!(refused.stderr.contains("not-sealed"), "{refused}");
    fs::remove_file(vault.path().join("not-sealed")).unwrap();
    key(&vault, &["retire"], &["--version", "1"]).ok();
}

#[test]
fn a_vault_without_files() {
    let vault = Vault::init();
    key(&vault, &["rotate"], &[]).ok();
    assert_eq!(key_json(&vault, &["rewrap"], &[])["rewrapped"], 1);
    key(&vault, &["retire"], &["--version", "1"]).ok();
    vault.mount(&[]).unmount();
}
