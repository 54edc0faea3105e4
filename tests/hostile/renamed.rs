//! A vault whose directory is renamed while it is mounted is asked and unmounted by its mount point.

use std::fs;
use std::path::PathBuf;

use crate::common::{Mounted, Outcome, Vault, run};

fn on_mount(vault: &Vault, args: &[&str]) -> Outcome {
    run(vault.command(args).arg(vault.mountpoint()))
}

fn renamed(vault: &Vault) -> (Mounted, PathBuf) {
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    let elsewhere = vault.scratch().join("renamed");
    fs::rename(vault.path(), &elsewhere).unwrap();
    (mount, elsewhere)
}

#[test]
fn a_renamed_vault_is_asked_and_unmounted() {
    let vault = Vault::init();
    let (mut mount, elsewhere) = renamed(&vault);
    let status = mount.status_json();
    assert_eq!(status["vault"].as_str(), elsewhere.to_str(), "{status}");
    assert_eq!(status["mounted"], true);
    on_mount(&vault, &["key", "rotate"]).ok();
    on_mount(&vault, &["key", "rewrap"]).ok();
    on_mount(&vault, &["key", "list"]).ok();
    on_mount(&vault, &["verify"]).ok();
    on_mount(&vault, &["trail", "verify"]).ok();
    mount.try_unmount().ok();
    // It has ended: another mount takes its lock, and finds all.
    run(vault.command(&["mount"]).arg(&elsewhere).arg(vault.mountpoint())).ok();
    assert_eq!(fs::read(vault.mountpoint().join("file")).unwrap(), b"content");
    on_mount(&vault, &["umount"]).ok();
    run(vault.command(&["trail", "verify"]).arg(&elsewhere)).ok();
}

#[test]
fn another_vault_in_its_place_is_not_taken_for_it() {
    let vault = Vault::init();
    let (mut mount, elsewhere) = renamed(&vault);
    fs::create_dir(vault.path()).unwrap();
    assert_eq!(mount.status_json()["vault"].as_str(), elsewhere.to_str());
    on_mount(&vault, &["key", "rotate"]).ok();
    mount.try_unmount().ok();
}
