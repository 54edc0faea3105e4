//! What a command does and prints is the same whether a daemon has the vault or nobody.

use std::fs;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Vault, run_within};
use crate::{key, key_json, version_of};

/// What is of this moment and this vault alone.
fn without_chance(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let chance = [
                "id",
                "vault_id",
                "key_file",
                "created",
                "retired",
                "next_rotation",
                "deletion_date",
            ];
            let kept = fields.iter().map(|(name, value)| {
                let is_chance = chance.contains(&name.as_str()) && value.is_string();
                let value = if is_chance { Value::from("…") } else { without_chance(value) };
                (name.clone(), value)
            });
            Value::Object(kept.collect())
        }
        Value::Array(items) => items.iter().map(without_chance).collect(),
        value => value.clone(),
    }
}

/// A key's whole life; what each command printed.
fn life(vault: &Vault) -> Vec<(String, Value)> {
    let steps: &[(&[&str], &[&str])] = &[
        (&["list"], &[]),
        (&["create"], &["second", "--rotate-every", "30"]),
        (&["describe"], &["second"]),
        (&["assign"], &["second", "dir"]),
        (&["rotate"], &[]),
        (&["rotate"], &["second", "--rotate-every", "0"]),
        (&["rewrap"], &["--dry-run"]),
        (&["rewrap"], &[]),
        (&["rewrap"], &["--rate", "1000"]),
        (&["retire"], &["--version", "1", "--dry-run"]),
        (&["retire"], &["--version", "1"]),
        (&["retire"], &["second", "--version", "1"]),
        (&["disable"], &["second"]),
        (&["enable"], &["second"]),
        (&["schedule-deletion"], &["second", "--days", "7", "--dry-run"]),
        (&["schedule-deletion"], &["second", "--days", "7"]),
        (&["cancel-deletion"], &["second"]),
        (&["enable"], &["second"]),
        (&["rewrap"], &["--to", "second"]),
        (&["assign"], &["second", "/"]),
        (&["grant"], &["second", "--user", "41001", "--allow", "rotate,decrypt", "--under", "dir"]),
        (&["grant"], &["second", "--everyone", "--deny", "decrypt", "--dry-run"]),
        (&["revoke"], &["second", "--user", "41001", "--allow", "decrypt", "--under", "dir"]),
        (&["protector", "list"], &[]),
        (&["list"], &[]),
    ];
    let run = |(command, args): &(&[&str], &[&str])| {
        let printed = without_chance(&key_json(vault, command, args));
        (format!("{command:?} {args:?}"), printed)
    };
    steps.iter().map(run).collect()
}

fn fill(mount: &crate::common::Mounted) {
    fs::create_dir(mount.join("dir")).unwrap();
    for number in 0..20 {
        fs::write(mount.join(format!("file-{number}")), vec![number; 5000]).unwrap();
    }
    fs::write(mount.join("empty"), b"").unwrap();
}

#[test]
fn mounted_or_not_the_result_is_the_same() {
    let at_rest = Vault::init();
    let mount = at_rest.mount(&[]);
    fill(&mount);
    mount.unmount();
    let expected = life(&at_rest);

    let mounted = Vault::init();
    let mount = mounted.mount(&[]);
    fill(&mount);
    assert_eq!(life(&mounted), expected);
    for number in 0..20u8 {
        assert_eq!(fs::read(mount.join(format!("file-{number}"))).unwrap(), vec![number; 5000]);
    }
    let last = expected.last().unwrap().1.to_string();
    assert!(last.contains("\"retired\""), "{last}");
    mount.unmount();
    mounted.verify();
    at_rest.verify();
}

#[test]
fn a_mount_point_stands_for_its_vault() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let outcome = crate::common::run(vault.command(&["key", "rotate"]).arg(mount.path())).ok();
    assert!(outcome.stdout.contains("version 2"), "{outcome}");
}

#[test]
fn a_rotation_holds_at_once_for_what_is_made_afterwards() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("before"), b"x").unwrap();
    key(&vault, &["rotate"], &[]).ok();
    fs::write(mount.join("after"), b"x").unwrap();
    assert_eq!(version_of(&vault.path().join("before")), 1);
    assert_eq!(version_of(&vault.path().join("after")), 2);
}

/// Neither waits for what the other has.
#[test]
fn a_status_and_a_change_of_a_key_end_beside_each_other() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let repeat = |words: &[&str]| {
        for _ in 0..30 {
            let mut command = vault.command(words);
            run_within(Duration::from_secs(20), command.arg(vault.path())).ok();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| repeat(&["status"]));
        scope.spawn(|| repeat(&["key", "rotate"]));
        scope.spawn(|| repeat(&["status", "--json"]));
    });
    mount.unmount();
}
