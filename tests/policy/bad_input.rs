//! What can't be granted: one sentence, the documented code, and the key file as it was.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::common::{Outcome, Vault, require_root, run};
use crate::{grant, key, revoke};

fn refused(vault: &Vault, command: &str, args: &str, code: i32, word: &str) {
    let before = fs::read(vault.key_file()).unwrap();
    one_sentence(&key(vault, command, args), code, word);
    assert_eq!(fs::read(vault.key_file()).unwrap(), before, "{command} {args}");
}

fn one_sentence(outcome: &Outcome, code: i32, word: &str) {
    assert_eq!(outcome.code(), code, "{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.contains(word), "{word}: {outcome}");
}

#[test]
fn mounted_or_not() {
    require_root();
    for mounted in [false, true] {
        let vault = Vault::init();
        let mount = mounted.then(|| vault.mount(&[]));
        for command in ["grant", "revoke"] {
            refused(
                &vault,
                command,
                "--user no-such-user --allow decrypt",
                2,
                "no user `no-such-user`",
            );
            refused(&vault, command, "--group no-such-group --allow decrypt", 2, "no group");
            refused(&vault, command, "--user 4294967295 --allow decrypt", 2, "no user");
            refused(&vault, command, "--user -1 --allow decrypt", 2, "-1");
            refused(&vault, command, "--everyone --allow frobnicate", 2, "generate-data-key");
            refused(&vault, command, "--everyone --allow", 2, "--allow");
            refused(&vault, command, "--everyone", 2, "--deny");
            refused(&vault, command, "--allow decrypt", 2, "--everyone");
            refused(&vault, command, "--everyone --user 1 --allow decrypt", 2, "--user");
            refused(&vault, command, "--everyone --allow decrypt --deny rotate", 2, "--deny");
            refused(&vault, command, "--everyone --allow decrypt --until tomorrow", 2, "tomorrow");
            refused(
                &vault,
                command,
                "--everyone --allow decrypt --until 2030-01-01",
                2,
                "2030-01-01",
            );
            refused(
                &vault,
                command,
                "--everyone --allow decrypt --under /etc",
                2,
                "not a path in this vault",
            );
            refused(
                &vault,
                command,
                "--everyone --allow decrypt --under ../x",
                2,
                "out of the vault",
            );
            refused(
                &vault,
                command,
                "--everyone --allow decrypt --under .atrest",
                2,
                "vault's own",
            );
            refused(
                &vault,
                command,
                "nobody --everyone --allow decrypt",
                8,
                "no master key `nobody`",
            );
        }
        refused(&vault, "grant", "--everyone --allow decrypt --under nowhere", 2, "no nowhere");
        let past = "2020-01-01T00:00:00Z";
        refused(&vault, "grant", &format!("--everyone --allow decrypt --until {past}"), 2, "past");
        refused(&vault, "revoke", "--everyone --allow decrypt", 8, "no such grant");
        grant(&vault, "--everyone --allow decrypt");
        refused(&vault, "revoke", "--everyone --deny decrypt", 8, "no such grant");
        refused(&vault, "revoke", "--everyone --allow rotate", 8, "no such grant");

        // What locks everybody out is asked for twice.
        for lock_out in ["--everyone --deny decrypt", "--everyone --deny rotate,put-policy"] {
            refused(&vault, "grant", lock_out, 9, "--yes --yes");
            refused(&vault, "grant", &format!("{lock_out} --yes"), 9, "--yes --yes");
        }
        grant(&vault, "--user 0 --deny decrypt --dry-run");
        grant(&vault, "--everyone --deny decrypt --yes --yes");
        revoke(&vault, "--everyone --deny decrypt --dry-run");
        revoke(&vault, "--everyone --deny decrypt");
        drop(mount);
    }
}

/// On a terminal it is asked, and only the key's name is a yes.
#[test]
fn a_lock_out_is_asked_for_on_a_terminal() {
    use std::io::Write;
    require_root();
    let vault = Vault::init();
    let grant = format!(
        "{} key grant {} --everyone --deny decrypt",
        crate::common::vault::binary().display(),
        vault.path().display()
    );
    for (answer, done) in [("no\n", false), ("default\n", true)] {
        let mut terminal = std::process::Command::new(crate::common::require("script"));
        terminal.args(["-qec", &grant, "/dev/null"]).env("ATREST_KEY_FILE", vault.key_file());
        let piped = std::process::Stdio::piped;
        let mut child = terminal.stdin(piped()).stdout(piped()).spawn().unwrap();
        let mut keyboard = child.stdin.take().unwrap();
        keyboard.write_all(answer.as_bytes()).unwrap();
        let said = child.wait_with_output().unwrap();
        drop(keyboard);
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(text.contains("Type the key's name"), "{text}");
        assert_eq!(said.status.code(), Some(if done { 0 } else { 9 }), "{text}");
    }
    one_sentence(&key(&vault, "revoke", "--everyone --allow decrypt"), 8, "no such grant");
    revoke(&vault, "--everyone --deny decrypt");
}

#[test]
fn a_rehearsal_changes_nothing() {
    require_root();
    let vault = Vault::init();
    grant(&vault, "--everyone --allow decrypt");
    let before = fs::read(vault.key_file()).unwrap();
    for (command, args) in [
        ("grant", "--user 1 --allow decrypt --dry-run"),
        ("grant", "--everyone --deny decrypt --dry-run"),
        ("revoke", "--everyone --allow decrypt --dry-run"),
    ] {
        let said = key(&vault, command, args).ok();
        assert!(said.stdout.contains("Nothing was changed."), "{said}");
        assert_eq!(fs::read(vault.key_file()).unwrap(), before);
    }
}

#[test]
fn simulating_nonsense() {
    require_root();
    let vault = Vault::init();
    for mounted in [false, true] {
        let mount = mounted.then(|| vault.mount(&[]));
        if let Some(mount) = &mount {
            fs::create_dir(mount.join("dir")).unwrap();
        }
        let refused = |user: &str, path: &str, what: &str, code: i32, word: &str| {
            let mut line = vault.command(&["policy", "simulate", "--user", user]);
            one_sentence(&run(line.arg(vault.path()).args([path, what])), code, word);
        };
        refused("no-such-user", "file", "read", 2, "no user");
        refused("root", "/etc/passwd", "read", 2, "not a path in this vault");
        refused("root", "../x", "read", 2, "out of the vault");
        refused("root", "file", "frob", 2, "frob");
        refused("root", "nowhere", "read", 1, "nowhere");
        refused("root", "nowhere/x", "create", 1, "nowhere");
        if mounted {
            refused("root", "dir", "read", 1, "dir");
        }
        drop(mount);
    }
}

#[test]
fn mounting_with_a_group_that_is_not() {
    require_root();
    let vault = Vault::init();
    let outcome = vault.try_mount(&["--admin-group", "no-such-group"]).err().expect("no mount");
    one_sentence(&outcome, 2, "no group `no-such-group`");
    let outcome = vault.try_mount(&["-o", "admin-group=no-such-group"]).err().expect("no mount");
    one_sentence(&outcome, 2, "no group `no-such-group`");
}

/// A key file that was changed opens for nobody, whatever its policy has become.
#[test]
fn a_fuzzed_key_file_grants_nothing() {
    use rand::RngExt;
    require_root();
    let vault = Vault::init();
    grant(&vault, "--user 41001 --allow decrypt --until 2999-01-01T00:00:00Z");
    let id = atrest::store::Vault::describe(&vault.path()).unwrap().vault;
    let whole = fs::read(vault.key_file()).unwrap();
    let copy = vault.scratch().join("fuzzed.json");
    let mut rng = crate::common::rng(7);
    let visible = |bytes: &[u8]| -> Vec<u8> {
        bytes.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect()
    };
    for _ in 0..3000 {
        let mut bytes = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                1 => bytes.insert(at, rng.random()),
                2 => bytes.truncate(at.max(1)),
                _ => drop(bytes.remove(at)),
            }
        }
        if visible(&bytes) == visible(&whole) {
            continue;
        }
        fs::write(&copy, &bytes).unwrap();
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).unwrap();
        let opened = atrest::keys::KeyFile::open(&copy, &id, &atrest::keys::NoPassphrase);
        assert!(opened.is_err(), "{}", bytes.escape_ascii());
    }
}
