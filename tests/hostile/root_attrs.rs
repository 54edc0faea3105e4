//! What the mount's root shows, where it is not what the vault was told last.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::Command;

use crate::common::{Allow, Mounted, Vault, require, require_root, run};

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

/// The kernel would let nobody write to a directory whose owner the mount's user namespace lacks.
#[test]
fn an_owner_whom_a_user_namespace_lacks_is_not_shown_there() {
    require_root();
    let map = ["--user", "--map-root-user", "--mount"];
    let mut own = Command::new(require("unshare"));
    if !run(own.args(map).arg("true")).success() {
        // This machine lets nobody make one.
        return;
    }
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    chown(mount.path(), Some(1_000), Some(1_000)).unwrap();
    mount.unmount();
    let script = r#"set -e
        "$1" mount "$2" "$3" --log-file "$4"
        stat -c '%u:%g' "$3"
        echo content > "$3/file"
        "$1" umount "$3""#;
    let mut inside = Command::new(require("unshare"));
    inside.args(map).args(["sh", "-c", script, "sh"]).arg(crate::common::vault::binary());
    let home = vault.scratch().join("home");
    inside.env("HOME", &home).env("XDG_STATE_HOME", home.join("state"));
    inside.env("ATREST_KEY_FILE", vault.key_file());
    let said = run(inside.arg(vault.path()).arg(vault.mountpoint()).arg(vault.next_log())).ok();
    assert_eq!(said.stdout.trim(), "0:0", "{said}");
    let mount = vault.mount(&[]);
    let root = fs::metadata(mount.path()).unwrap();
    assert_eq!((root.uid(), root.gid()), (1_000, 1_000));
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"content\n");
    mount.unmount();
}
