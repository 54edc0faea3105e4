//! What can't be done to a key: one sentence, the documented code, and the key file as it was.

use std::fs;

use crate::common::Vault;
use crate::key;

fn refused(vault: &Vault, command: &[&str], args: &[&str], code: i32, word: &str) {
    let before = fs::read(vault.key_file()).unwrap();
    let outcome = key(vault, command, args);
    assert_eq!(outcome.code(), code, "{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.contains(word), "{word}: {outcome}");
    assert_eq!(fs::read(vault.key_file()).unwrap(), before, "{command:?} {args:?}");
}

#[test]
fn mounted_or_not() {
    for mounted in [false, true] {
        let vault = Vault::init();
        key(&vault, &["rotate"], &[]).ok();
        key(&vault, &["rewrap"], &[]).ok();
        let mount = mounted.then(|| vault.mount(&[]));
        for command in
            ["rotate", "enable", "disable", "cancel-deletion", "describe", "schedule-deletion"]
        {
            refused(&vault, &[command], &["nobody"], 8, "no master key `nobody`");
        }
        refused(&vault, &["retire"], &["--version", "2"], 8, "current");
        refused(&vault, &["retire"], &["--version", "9"], 8, "no version 9");
        refused(&vault, &["retire"], &["nobody", "--version", "1"], 8, "nobody");
        refused(&vault, &["retire"], &[], 2, "--version");
        refused(&vault, &["create"], &["default"], 8, "default");
        refused(&vault, &["create"], &["../x"], 8, "../x");
        refused(&vault, &["create"], &[""], 8, "name");
        refused(&vault, &["schedule-deletion"], &["--days", "3"], 2, "7..=30");
        refused(&vault, &["schedule-deletion"], &["--days", "31"], 2, "7..=30");
        refused(&vault, &["cancel-deletion"], &[], 8, "not pending");
        refused(&vault, &["destroy"], &["--yes"], 8, "run `atrest key schedule-deletion` first");
        refused(&vault, &["rewrap"], &["--to", "nobody"], 8, "nobody");
        refused(&vault, &["rewrap"], &["--rate", "0"], 2, "--rate");
        refused(&vault, &["assign"], &["nobody", "/"], 8, "nobody");
        refused(&vault, &["assign"], &["default", "nowhere"], 1, "nowhere");
        refused(&vault, &["assign"], &["default", "../x"], 2, "out of the vault");
        refused(&vault, &["protector", "remove"], &["1"], 8, "last");
        refused(&vault, &["protector", "remove"], &["7"], 8, "no protector 7");
        key(&vault, &["retire"], &["--version", "1"]).ok();
        refused(&vault, &["retire"], &["--version", "1"], 8, "retired");
        drop(mount);
    }
}

#[test]
fn a_disabled_key_can_neither_rotate_nor_be_given_to_a_directory() {
    let vault = Vault::init();
    key(&vault, &["create"], &["second"]).ok();
    key(&vault, &["disable"], &["second"]).ok();
    refused(&vault, &["rotate"], &["second"], 8, "disabled");
    refused(&vault, &["assign"], &["second", "/"], 8, "disabled");
    refused(&vault, &["rewrap"], &["--to", "second"], 8, "disabled");
    // Disabling it again changes nothing that counts.
    key(&vault, &["disable"], &["second"]).ok();
    key(&vault, &["enable"], &["second"]).ok();
    key(&vault, &["rotate"], &["second"]).ok();
}

#[test]
fn two_at_once_both_hold() {
    let vault = Vault::init();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    let outcome = key(&vault, &["rotate"], &[]);
                    assert!(outcome.success(), "{outcome}");
                }
            });
        }
    });
    assert_eq!(crate::described(&vault, "default")["current_version"], 21);
}
