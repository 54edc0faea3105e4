//! What the mount's root shows, where it is not what the vault was told last.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::common::{Allow, Mounted, Vault};

/// The mode of the mount's root.
pub fn show_mode(mount: &Mounted, mode: u32) {
    fs::set_permissions(mount.path(), fs::Permissions::from_mode(mode)).unwrap();
}

fn shown_mode(mount: &Mounted) -> u32 {
    fs::metadata(mount.path()).unwrap().mode() & 0o7777
}

/// After a crash it may be what a change left behind that the vault was not told of.
#[test]
fn an_older_mode_is_taken_after_a_crash_alone() {
    let vault = Vault::init();
    let file = vault.path().join(".atrest/root.json");
    let mount = vault.mount(&[]);
    show_mode(&mount, 0o750);
    let older = fs::read(&file).unwrap();
    show_mode(&mount, 0o700);
    mount.unmount();
    let newer = fs::read(&file).unwrap();
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Warnings);
    mount.kill9();
    let _ = mount.try_unmount();
    fs::write(&file, older).unwrap();
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Warnings);
    assert_eq!(shown_mode(&mount), 0o750);
    mount.unmount();
    fs::write(&file, newer).unwrap();
    let refusal = vault.try_mount(&[]).err().expect("it is another one than at the clean end");
    assert_eq!(refusal.code(), 11, "{refusal}");
    assert!(refusal.stderr.contains("mode and owner of its root"), "{refusal}");
    let mut mount = vault.mount(&["--accept-rollback"]);
    mount.allow(Allow::Warnings);
    assert_eq!(shown_mode(&mount), 0o700);
    mount.unmount();
    vault.mount(&[]).unmount();
}

/// What the last clean end has kept of it is shown where the file is lost with a crash.
#[test]
fn a_file_that_a_crash_left_damaged_loses_nothing() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    show_mode(&mount, 0o751);
    mount.unmount();
    for _ in 0..2 {
        let mut mount = vault.mount(&[]);
        mount.allow(Allow::Warnings);
        mount.kill9();
        let _ = mount.try_unmount();
        fs::write(vault.path().join(".atrest/root.json"), b"torn").unwrap();
    }
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Warnings);
    assert_eq!(shown_mode(&mount), 0o751);
    mount.unmount();
    vault.mount(&[]).unmount();
}
