//! What happens because it is time. The clock is libfaketime's.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::account::told;
use crate::common::clock::{at, made};
use crate::common::{Allow, Mounted, Vault, require_root, vault, wait_until};
use crate::{assert_whole, command, key, lines};

const LIMIT: Duration = Duration::from_secs(40);

/// The lines of these kinds, in words; each by the daemon, or by a command.
fn found(vault: &Vault, events: &str, by: Option<u32>) -> Vec<String> {
    let found = lines(vault, &format!("--event {events}"));
    let binary = vault::binary().canonicalize().unwrap();
    for line in &found {
        let who = &line["userIdentity"];
        assert_eq!(who["executable"].as_str(), binary.to_str(), "{line}");
        assert!(by.is_none_or(|pid| who["pid"] == pid), "{line}");
    }
    found.iter().map(told).collect()
}

/// A vault with the key `doomed`, whose time was up 13 days ago.
fn with_a_doomed_key() -> Vault {
    let vault = made("-40d", &[]);
    at("-40d", command(&vault, ["key", "create"], "doomed")).ok();
    at("-20d", command(&vault, ["key", "schedule-deletion"], "doomed --days 7")).ok();
    vault
}

/// A mount whose clock is four seconds before the time of its key `doomed`.
fn mounted_before_the_time() -> (Vault, Mounted) {
    let vault = Vault::init();
    key(&vault, "create", "doomed").ok();
    key(&vault, "schedule-deletion", "doomed --days 7").ok();
    let mounted = Mounted::try_mount_with(&vault, &[], |command| at("+604796", command));
    (vault, mounted.unwrap())
}

const DELETED: &str = "DeleteKey - - - doomed/1 ok rw";

#[test]
fn a_rotation_at_the_mount() {
    require_root();
    let vault = made("-400d", &[]);
    let mount = vault.mount(&[]);
    let rotated = found(&vault, "RotateKey", Some(mount.pid()));
    assert_eq!(rotated, ["RotateKey - - - default/2 ok rw"]);
    mount.unmount();
    assert_whole(&vault);
}

#[test]
fn rotations_while_mounted() {
    require_root();
    let vault = Vault::init();
    key(&vault, "rotate", "--rotate-every 1").ok();
    // A day takes two seconds.
    let mount = Mounted::try_mount_with(&vault, &[], |command| at("+0d x43200", command)).unwrap();
    let rotations = || {
        let lines = lines(&vault, "--event RotateKey");
        Some(lines).filter(|lines| lines.len() > 3)
    };
    let rotated: Vec<Value> = wait_until(LIMIT, rotations).expect("lines within the time");
    for (version, line) in (3..).zip(&rotated[1..]) {
        assert_eq!(told(line), format!("RotateKey - - - default/{version} ok rw"));
        assert_eq!(line["userIdentity"]["pid"], mount.pid(), "{line}");
    }
    mount.unmount();
    assert_whole(&vault);
}

#[test]
fn a_deletion_at_the_mount() {
    require_root();
    let vault = with_a_doomed_key();
    let mut mount = vault.mount(&[]);
    mount.expect_line("destroyed the master key `doomed`");
    assert_eq!(found(&vault, "DeleteKey", Some(mount.pid())), [DELETED]);
    mount.unmount();
    assert_whole(&vault);
}

/// With the next change of any key, by whoever makes it.
#[test]
fn a_deletion_by_a_command() {
    require_root();
    let vault = with_a_doomed_key();
    key(&vault, "grant", "doomed --everyone --allow describe").ok();
    assert_eq!(found(&vault, "DeleteKey", None), Vec::<String>::new(), "a policy is no key");
    key(&vault, "rotate", "").ok();
    assert_eq!(found(&vault, "DeleteKey", None), [DELETED]);
    key(&vault, "rotate", "").ok();
    assert_eq!(found(&vault, "DeleteKey,RotateKey", None).len(), 3);
    assert_whole(&vault);
}

/// The same by the daemon, before it looks itself.
#[test]
fn a_deletion_by_a_request() {
    require_root();
    let (vault, mut mount) = mounted_before_the_time();
    mount.allow(Allow::Warnings);
    thread::sleep(Duration::from_secs(5));
    key(&vault, "rotate", "").ok();
    key(&vault, "rotate", "").ok();
    assert_eq!(found(&vault, "DeleteKey", None), [DELETED], "once");
    mount.unmount();
    assert_whole(&vault);
}

/// One that goes on when the daemon looks did not do it.
#[test]
fn a_deletion_during_a_request() {
    require_root();
    let (vault, mut mount) = mounted_before_the_time();
    mount.expect_line("destroyed the master key `doomed`");
    for file in 0..13 {
        fs::write(mount.join(file.to_string()), b"content").unwrap();
    }
    key(&vault, "rotate", "").ok();
    key(&vault, "rewrap", "--rate 1").ok();
    assert_eq!(found(&vault, "DeleteKey", Some(mount.pid())), [DELETED]);
    let rewrapped = lines(&vault, "--event ReEncrypt,DeleteKey");
    assert_eq!(rewrapped.last().unwrap()["eventName"], "ReEncrypt", "it went on");
    mount.unmount();
    assert_whole(&vault);
}
