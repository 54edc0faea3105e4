//! A machine that can't keep what it knows of a vault says so, with the reason, and goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::common::{Outcome, User, Vault, require_root, run};

/// Mounts with other variables, and says what was told and what the status then is.
fn mounted(vault: &Vault, set: impl Fn(&mut Command)) -> (Outcome, Value, String) {
    let mut command = vault.command(&["mount"]);
    command.arg(vault.path()).arg(vault.mountpoint());
    set(&mut command);
    let told = run(&mut command).ok();
    let status = |json: &[&str]| {
        run(vault.command(&["status"]).arg(vault.mountpoint()).args(json)).ok().stdout
    };
    let found = serde_json::from_str(&status(&["--json"])).unwrap();
    let text = status(&[]);
    run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
    (told, found, text)
}

#[test]
fn a_record_that_can_not_be_kept_is_told_with_its_reason() {
    require_root();
    let user = User { uid: 65_534, gid: 65_534, groups: vec![65_534] };
    let vault = Vault::init_as(&user);
    vault.mount(&[]).unmount();
    let closed = vault.scratch().make_dir("closed");
    let kept = |command: &mut Command| {
        command.env("XDG_STATE_HOME", &closed);
    };
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    // Each time, and never as if it were the first.
    for _ in 0..2 {
        let (told, status, text) = mounted(&vault, kept);
        assert_eq!(told.stderr.matches("can't keep what it knows").count(), 1, "{told}");
        assert!(told.stderr.contains("Permission denied"), "{told}");
        assert!(!told.stderr.contains("for the first time"), "{told}");
        let failing = status["freshness"]["failing"].as_str().unwrap();
        assert!(failing.contains("Permission denied"), "{status}");
        assert!(text.contains("can't be kept: Permission denied"), "{text}");
    }
    let nowhere = |command: &mut Command| {
        command.env_remove("XDG_STATE_HOME").env_remove("HOME");
    };
    let (told, status, _) = mounted(&vault, nowhere);
    assert!(told.stderr.contains("neither XDG_STATE_HOME nor HOME"), "{told}");
    assert_eq!(status["freshness"]["found"], "no-record");
    assert!(status["freshness"]["failing"].is_string(), "{status}");
    let mount = vault.mount(&[]);
    assert!(mount.status_json()["freshness"]["failing"].is_null());
    mount.unmount();
}
