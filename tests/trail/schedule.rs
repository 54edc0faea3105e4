//! What happens because it is time. The clock is libfaketime's.

use std::time::Duration;

use serde_json::Value;

use crate::account::told;
use crate::common::clock::{at, made};
use crate::common::{Mounted, Vault, require_root, vault, wait_until};
use crate::{assert_whole, command, key, lines};

const LIMIT: Duration = Duration::from_secs(300);

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

const DELETED: &str = "DeleteKey destroy - - doomed/1 ok rw";

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

/// No clock destroys a key: neither at a mount, nor with the change of another key.
#[test]
fn a_deletion_is_a_command_of_its_own() {
    require_root();
    let vault = with_a_doomed_key();
    vault.mount(&[]).unmount();
    key(&vault, "rotate", "").ok();
    let mount = vault.mount(&[]);
    key(&vault, "rotate", "").ok();
    assert_eq!(found(&vault, "DeleteKey", None), Vec::<String>::new());
    key(&vault, "destroy", "doomed --dry-run").ok();
    key(&vault, "destroy", "doomed --yes").ok();
    assert_eq!(found(&vault, "DeleteKey", None), [DELETED]);
    mount.unmount();
    assert_whole(&vault);
}

#[test]
fn a_deletion_while_unmounted() {
    require_root();
    let vault = with_a_doomed_key();
    key(&vault, "destroy", "doomed --yes").ok();
    assert_eq!(found(&vault, "DeleteKey", None), [DELETED]);
    assert_whole(&vault);
}
