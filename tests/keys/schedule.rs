//! A key that is due is rotated by the daemon. The clock is libfaketime's.

use std::fs;
use std::time::Duration;

use crate::common::clock::{at, made};
use crate::common::{Mounted, Vault, wait_until};
use crate::{described, key_json, version_of};

fn version(vault: &Vault) -> i64 {
    described(vault, "default")["current_version"].as_i64().unwrap()
}

#[test]
fn a_key_that_is_due_is_rotated_at_the_mount() {
    let vault = made("-400d", &[]);
    assert_eq!(version(&vault), 1);
    let mount = vault.mount(&[]);
    assert_eq!(version(&vault), 2);
    assert!(mount.log().contains("rotated the master key `default`"), "{}", mount.log());
    fs::write(mount.join("file"), b"x").unwrap();
    assert_eq!(version_of(&vault.path().join("file")), 2);
    let next = mount.status_json()["next_rotation"].to_string();
    let mount = mount.remount(&[]);
    assert_eq!(version(&vault), 2);
    assert_eq!(mount.status_json()["next_rotation"].to_string(), next);
}

#[test]
fn a_key_that_is_not_due_or_never_is_stays() {
    for (clock, options) in [
        ("-300d", &[][..]),
        ("-400d", &["--rotate-every", "0"]),
        ("-400d", &["--rotate-every", "500"]),
    ] {
        let vault = made(clock, options);
        vault.mount(&[]).unmount();
        assert_eq!(version(&vault), 1, "{clock} {options:?}");
    }
    let never = made("-400d", &["--rotate-every", "0"]);
    assert!(never.mount(&[]).status_json()["next_rotation"].is_null());
}

#[test]
fn a_key_that_becomes_due_is_rotated_while_mounted() {
    let vault = Vault::init();
    key_json(&vault, &["rotate"], &["--rotate-every", "1"]);
    // A day takes two seconds.
    let mount = Mounted::try_mount_with(&vault, &[], |command| at("+0d x43200", command)).unwrap();
    let rotated = wait_until(Duration::from_secs(40), || (version(&vault) > 3).then_some(()));
    assert!(rotated.is_some(), "at version {}: {}", version(&vault), mount.log());
    fs::write(mount.join("file"), b"x").unwrap();
    assert!(version_of(&vault.path().join("file")) > 2);
}

/// A clock that jumps forward, or back, destroys no key, mounted or not; nor does any other command.
/// The user's does, when the time is up.
#[test]
fn no_key_is_destroyed_by_the_clock() {
    let vault = Vault::init();
    let key = |clock: &str, args: &[&str]| {
        let mut command = vault.command(&["key"]);
        command.arg(args[0]).arg(vault.path()).args(&args[1..]);
        at(clock, command)
    };
    let state = || described(&vault, "doomed")["state"].as_str().unwrap().to_owned();
    key("+0d", &["create", "doomed"]).ok();
    key("+0d", &["schedule-deletion", "doomed", "--days", "7"]).ok();
    for clock in ["+9000d", "-9000d"] {
        let mut mount = Mounted::try_mount_with(&vault, &[], |command| at(clock, command)).unwrap();
        mount.allow(crate::common::Allow::Warnings);
        // By the daemon, whose clock it is, and offline.
        key(clock, &["disable"]).ok();
        key(clock, &["enable"]).ok();
        mount.unmount();
        key(clock, &["rotate"]).ok();
        assert_eq!(state(), "pending-deletion", "{clock}");
    }
    let early = key("+6d", &["destroy", "doomed", "--yes"]);
    assert_eq!(early.code(), 8, "{early}");
    assert!(early.stderr.contains("can be destroyed from"), "{early}");
    let unsaid = key("+8d", &["destroy", "doomed"]);
    assert_eq!(unsaid.code(), 2, "{unsaid}");
    assert!(unsaid.stderr.contains("`--yes` does it"), "{unsaid}");
    let other = key("+8d", &["destroy", "default", "--yes"]);
    assert_eq!(other.code(), 8, "{other}");
    assert_eq!(state(), "pending-deletion");
    let destroyed = key("+8d", &["destroy", "doomed", "--yes"]).ok();
    assert!(destroyed.stdout.contains("It wrapped the keys of 0 files."), "{destroyed}");
    assert_eq!(state(), "destroyed");
    let refused = crate::key(&vault, &["cancel-deletion"], &["doomed"]);
    assert_eq!(refused.code(), 8, "{refused}");
}
