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

#[test]
fn a_key_whose_time_is_up_is_destroyed() {
    let vault = made("-40d", &[]);
    let mut create = vault.command(&["key", "create"]);
    create.arg(vault.path()).arg("doomed");
    at("-40d", create).ok();
    let mut schedule = vault.command(&["key", "schedule-deletion"]);
    schedule.arg(vault.path()).args(["doomed", "--days", "7"]);
    at("-20d", schedule).ok();
    assert_eq!(described(&vault, "doomed")["state"], "pending-deletion");
    let mut mount = vault.mount(&[]);
    mount.expect_line("destroyed the master key `doomed`");
    assert_eq!(described(&vault, "doomed")["state"], "destroyed");
    let refused = crate::key(&vault, &["cancel-deletion"], &["doomed"]);
    assert_eq!(refused.code(), 8, "{refused}");
}
