//! A machine that can't keep what it knows of a vault says so, with the reason, and goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::common::{Allow, Outcome, User, Vault, require_root, run};

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

/// Where it was deleted, and all else put back, nothing else would tell.
#[test]
fn a_record_that_was_deleted_is_missed_by_who_uses_the_key() {
    if atrest::sys::machine_id().is_none() {
        return;
    }
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let mut found = fs::read_dir(vault.scratch().join("home/state/atrest")).unwrap();
    let record = found.find_map(|entry| {
        let path = entry.unwrap().path();
        path.extension().is_some_and(|end| end == "freshness").then_some(path)
    });
    let record = record.unwrap();
    let kept = fs::read(&record).unwrap();
    fs::remove_file(&record).unwrap();
    let refused = [
        vault.run(&["key", "rotate"]),
        vault.run(&["verify"]),
        vault.try_mount(&["--read-only"]).err().unwrap(),
        vault.try_mount(&[]).err().unwrap(),
    ];
    for refusal in refused {
        assert_eq!(refusal.code(), 11, "{refusal}");
        assert_eq!(refusal.stderr.lines().count(), 1, "{refusal}");
        for what in ["is missing, and the vault told it of", "--accept-rollback"] {
            assert!(refusal.stderr.contains(what), "{refusal}");
        }
    }
    assert!(!record.exists(), "a refusal wrote one");
    fs::write(&record, kept).unwrap();
    let mount = vault.mount(&[]);
    assert_eq!(mount.status_json()["freshness"]["found"], "fresh");
    mount.unmount();
    // Where the file is lost for good. Reading alone accepts it, too.
    fs::remove_file(&record).unwrap();
    for (options, found) in [
        (&["--accept-rollback", "--read-only"][..], "accepted-rollback"),
        (&[], "fresh"),
        (&[], "fresh"),
    ] {
        let mut mount = vault.mount(options);
        mount.allow(Allow::Warnings);
        assert_eq!(mount.status_json()["freshness"]["found"], found);
        mount.unmount();
    }
    let query = run(vault
        .command(&["trail", "query"])
        .arg(vault.path())
        .args(["--event", "AcceptRollback"]));
    assert_eq!(query.stdout.lines().count(), 1, "{query}");
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

/// A trail whose directory is gone is not one that nobody has kept.
#[test]
fn a_trail_that_was_moved_away_is_missing_as_a_whole() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let kept = vault.scratch().join("home/state/atrest");
    let is_trail = |path: &std::path::PathBuf| path.is_dir();
    let trail = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().path()).find(is_trail);
    fs::rename(trail.unwrap(), vault.scratch().join("elsewhere")).unwrap();
    let found = vault.run(&["trail", "verify"]);
    assert_eq!(found.code(), 3, "{found}");
}
