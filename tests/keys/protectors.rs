//! Who can open the key file: passphrases like the slots of LUKS, one of them never removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::common::vault::binary;
use crate::common::{Outcome, Vault, run, write_secret};
use crate::{described, key, key_command, key_json};

/// Little enough work that a test can wait for it.
const CHEAP: [&str; 4] = ["--argon2-memory", "8", "--argon2-passes", "1"];

fn passphrase(vault: &Vault, name: &str) -> PathBuf {
    let path = vault.scratch().join(name);
    write_secret(&path, format!("passphrase {name} for tests\n"));
    path
}

/// Where a key file has no passphrase.
const NONE_YET: &str = "";

/// A key command with a passphrase, and perhaps a new one.
fn with(vault: &Vault, command: &[&str], args: &[&str], old: &str, new: Option<&str>) -> Outcome {
    let mut line = key_command(vault, command, args);
    if old != NONE_YET {
        line.arg("--passphrase-file").arg(passphrase(vault, old));
    }
    if let Some(new) = new {
        line.arg("--new-passphrase-file").arg(passphrase(vault, new)).args(CHEAP);
    }
    run(&mut line)
}

/// A vault whose key file takes the passphrase `first`.
fn protected() -> Vault {
    let vault = Vault::init();
    with(&vault, &["protector", "add"], &[], NONE_YET, Some("first")).ok();
    vault
}

fn opens(vault: &Vault, passphrase: &str) -> bool {
    let outcome = with(vault, &["list"], &[], passphrase, None);
    if !outcome.success() {
        assert_eq!(outcome.code(), 5, "{outcome}");
        assert!(outcome.stderr.contains("passphrase"), "{outcome}");
    }
    outcome.success()
}

#[test]
fn a_passphrase_takes_the_place_of_none() {
    let vault = protected();
    assert!(opens(&vault, "first") && !opens(&vault, "second"));
    let without = key(&vault, &["list"], &[]);
    assert_eq!(without.code(), 5, "{without}");
    assert!(without.stderr.contains("--passphrase-file"), "{without}");
    assert!(vault.try_mount(&[]).is_err());
    let file = passphrase(&vault, "first");
    let mount = vault.mount(&["--passphrase-file", file.to_str().unwrap()]);
    fs::write(mount.join("file"), b"x").unwrap();
    // The daemon opens the key file again without being told the passphrase again.
    key(&vault, &["rotate"], &[]).ok();
    key(&vault, &["rewrap"], &[]).ok();
    let mount = mount.remount(&["-o", &format!("passphrase-file={}", file.display())]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"x");
}

#[test]
fn init_can_ask_for_one_at_once() {
    let vault = Vault::prepare();
    let file = passphrase(&vault, "first");
    let mut init = vault.command(&["init"]);
    init.arg(vault.path()).arg("--new-passphrase-file").arg(&file).args(CHEAP);
    run(&mut init).ok();
    assert!(opens(&vault, "first") && !opens(&vault, "other"));
}

#[test]
fn a_command_can_give_it() {
    let vault = protected();
    let file = passphrase(&vault, "first");
    let print = format!("cat {}", file.display());
    key(&vault, &["list"], &["--passphrase-command", &print]).ok();
    let failed = key(&vault, &["list"], &["--passphrase-command", "exit 3"]);
    assert_eq!(failed.code(), 5, "{failed}");
}

#[test]
fn several_open_it_and_each_can_go_but_the_last() {
    let vault = protected();
    with(&vault, &["protector", "add"], &[], "first", Some("second")).ok();
    assert!(opens(&vault, "first") && opens(&vault, "second"));
    let listed = with(&vault, &["protector", "list"], &["--json"], "second", None).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let ids: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["id"].to_string()).collect();
    assert_eq!(ids.len(), 2, "{listed}");
    let before = fs::read(vault.key_file()).unwrap();
    with(&vault, &["protector", "remove"], &[&ids[0], "--dry-run"], "second", None).ok();
    let missing = with(&vault, &["protector", "remove"], &["99"], "second", None);
    assert_eq!(missing.code(), 8, "{missing}");
    assert_eq!(fs::read(vault.key_file()).unwrap(), before);

    with(&vault, &["protector", "remove"], &[&ids[0]], "second", None).ok();
    assert!(!opens(&vault, "first") && opens(&vault, "second"));
    let last = with(&vault, &["protector", "remove"], &[&ids[1]], "second", None);
    assert_eq!(last.code(), 8, "{last}");
    assert!(opens(&vault, "second"));
}

#[test]
fn a_changed_passphrase_opens_no_later_state_and_no_copy_is_left() {
    let vault = protected();
    let listed = with(&vault, &["protector", "list"], &["--json"], "first", None).ok();
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    let id = listed[0]["id"].to_string();
    with(&vault, &["protector", "change"], &[&id], "first", Some("second")).ok();
    assert!(!opens(&vault, "first") && opens(&vault, "second"));
    // Every file beside the key file that holds a key file: none opens by the old passphrase.
    let current = vault.key_file();
    for entry in fs::read_dir(current.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("key.json") && path != current && fs::metadata(&path).unwrap().len() > 0
        {
            let old =
                with(&vault, &["list"], &["--key-file", path.to_str().unwrap()], "first", None);
            assert!(!old.success(), "{name} still opens: {old}");
        }
    }
}

#[test]
fn a_wrong_passphrase_changes_nothing() {
    let vault = protected();
    let before = fs::read(vault.key_file()).unwrap();
    for (command, args, new) in [
        (&["rotate"][..], &[][..], None),
        (&["disable"], &[], None),
        (&["protector", "add"], &[], Some("second")),
        (&["protector", "change"], &["2"], Some("second")),
        (&["protector", "remove"], &["2"], None),
        (&["backup"], &["backup.txt"], None),
    ] {
        let refused = with(&vault, command, args, "wrong", new);
        assert_eq!(refused.code(), 5, "{refused}");
    }
    assert_eq!(fs::read(vault.key_file()).unwrap(), before);
    assert!(!vault.scratch().join("backup.txt").exists());
}

#[test]
fn a_passphrase_file_that_is_none() {
    let vault = protected();
    let file = vault.scratch().join("odd");
    let try_it = |content: &[u8], word: &str| {
        write_secret(&file, content);
        let refused = key(&vault, &["list"], &["--passphrase-file", file.to_str().unwrap()]);
        assert_eq!(refused.code(), 5, "{refused}");
        assert!(refused.stderr.contains(word), "{refused}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused}");
    };
    try_it(b"", "empty");
    try_it(b"\n", "empty");
    try_it(b"passphrase first for tests\nmore\n", "more than one line");
    try_it(&[b'x'; 70_000], "longer");
    fs::remove_file(&file).unwrap();
    let refused = key(&vault, &["list"], &["--passphrase-file", file.to_str().unwrap()]);
    assert_eq!(refused.code(), 5, "{refused}");
    // Without the newline at its end it is the same passphrase.
    write_secret(&file, b"passphrase first for tests");
    key(&vault, &["list"], &["--passphrase-file", file.to_str().unwrap()]).ok();
}

#[test]
fn a_daemon_whose_passphrase_was_removed_says_so() {
    let vault = protected();
    let file = passphrase(&vault, "first");
    let mount = vault.mount(&["--passphrase-file", file.to_str().unwrap()]);
    fs::write(mount.join("file"), b"x").unwrap();
    with(&vault, &["protector", "add"], &[], "first", Some("second")).ok();
    with(&vault, &["protector", "remove"], &["2"], "second", None).ok();
    let refused = key(&vault, &["rotate"], &[]);
    assert_eq!(refused.code(), 5, "{refused}");
    assert!(refused.stderr.contains("removed"), "{refused}");
    // The mount goes on with the keys it has.
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"x");
    mount.unmount();
    with(&vault, &["rotate"], &[], "second", None).ok();
}

#[test]
fn back_to_no_passphrase() {
    let vault = protected();
    with(&vault, &["protector", "add"], &["--raw"], "first", None).ok();
    assert_eq!(described(&vault, "default")["current_version"], 1);
    assert_eq!(key_json(&vault, &["protector", "list"], &[]).as_array().unwrap().len(), 2);
}

/// Refused with the command that mends it, for the passphrase that is and for one that is to be.
#[test]
fn a_passphrase_file_that_is_open_to_others() {
    let vault = protected();
    let before = fs::read(vault.key_file()).unwrap();
    let file = passphrase(&vault, "first");
    let path = file.to_str().unwrap();
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        for option in ["--passphrase-file", "--new-passphrase-file"] {
            let refused = key(&vault, &["protector", "add"], &[option, path]);
            assert_eq!(refused.code(), 5, "{refused}");
        }
        let refused = key(&vault, &["list"], &["--passphrase-file", path]);
        assert!(refused.stderr.contains(&format!("has mode {mode:04o}")), "{refused}");
        assert!(refused.stderr.contains("`chmod 600` it"), "{refused}");
    }
    assert_eq!(fs::read(vault.key_file()).unwrap(), before);
    // A pipe of the shell has no mode that means anything.
    let mut shell = Command::new("bash");
    let script = r#"exec "$0" key list "$1" --passphrase-file <(cat "$2")"#;
    shell.args(["-c", script]).arg(binary()).arg(vault.path()).arg(&file);
    run(shell.env("ATREST_KEY_FILE", vault.key_file())).ok();
}

#[test]
fn what_the_passphrase_costs_is_bounded_by_who_opens() {
    let vault = protected();
    let file = passphrase(&vault, "first");
    let path = file.to_str().unwrap();
    let limited =
        |mib| key(&vault, &["list"], &["--passphrase-file", path, "--max-argon2-memory", mib]);
    limited("8").ok();
    let refused = limited("7");
    assert_eq!(refused.code(), 5, "{refused}");
    assert!(refused.stderr.contains("`--max-argon2-memory 8`"), "{refused}");
    let options = format!("passphrase-file={path},max-argon2-memory=");
    assert!(vault.try_mount(&["-o", &format!("{options}7")]).is_err());
    vault.mount(&["-o", &format!("{options}8")]).unmount();
}
