//! Who looks after the keys reads nothing, and who reads does not look after them.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;

use crate::common::files::errno;
use crate::common::{Outcome, User, Vault, require, run};
use crate::people::People;
use crate::{grant, key};

/// A copy of the binary that everybody may run.
fn copy_of_binary(vault: &Vault) -> PathBuf {
    let copy = vault.scratch().join("atrest");
    run(Command::new("cp").arg(crate::common::vault::binary()).arg(&copy)).ok();
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy
}

/// `atrest COMMAND… VAULT ARGS…` by somebody.
fn by(vault: &Vault, user: &User, command: &str, args: &str) -> Outcome {
    let groups: Vec<_> = user.groups.iter().map(u32::to_string).collect();
    let mut line = Command::new(require("setpriv"));
    line.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
    line.arg(format!("--groups={}", groups.join(","))).arg(vault.scratch().join("atrest"));
    line.args(command.split(' ')).arg(vault.path()).args(args.split(' ').filter(|w| !w.is_empty()));
    run(line
        .env_remove("ATREST_KEY_FILE")
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME"))
}

fn refused(outcome: &Outcome, code: i32, word: &str) {
    assert_eq!(outcome.code(), code, "{outcome}");
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    assert!(outcome.stderr.contains(word), "{word}: {outcome}");
}

#[test]
fn an_admin_rotates_and_a_reader_reads() {
    let people = People::make();
    let (admin, reader) = (&people.member.user, &people.named.user);
    let vault = Vault::init();
    copy_of_binary(&vault);
    let mount = vault.mount(&["--allow-other", "--admin-group", &people.group]);
    // Those outside the group are not heard, and the log says so.
    fs::write(mount.join("file"), b"content").unwrap();
    key(&vault, "create", "second").ok();

    // In the group, and without a grant.
    refused(&by(&vault, admin, "key rotate", ""), 9, "rotate");
    refused(&by(&vault, admin, "key list", ""), 9, "describe");
    refused(&by(&vault, admin, "policy show", ""), 9, "describe");
    refused(&by(&vault, admin, "status", ""), 9, "describe");
    refused(&by(&vault, admin, "verify", ""), 9, "decrypt");
    grant(&vault, &format!("--group {} --allow describe,rotate,rewrap", people.group));
    grant(&vault, &format!("--user {} --allow decrypt", people.named.name));

    by(&vault, admin, "key rotate", "").ok();
    let listed = by(&vault, admin, "key list", "").ok();
    assert!(listed.stdout.contains("version 2    current"), "{listed}");
    assert!(!listed.stdout.contains("second"), "which they may not see: {listed}");
    by(&vault, admin, "key describe", "").ok();
    refused(&by(&vault, admin, "key describe", "second"), 8, "second");
    by(&vault, admin, "status", "").ok();
    let shown = by(&vault, admin, "policy show", "").ok();
    assert!(shown.stdout.contains("--allow describe,rotate,rewrap"), "{shown}");
    // All keys' files are rewrapped, so every key is asked.
    refused(&by(&vault, admin, "key rewrap", ""), 9, "second");
    grant(&vault, &format!("second --group {} --allow rewrap", people.group));
    by(&vault, admin, "key rewrap", "").ok();
    for (command, args) in [
        ("key disable", ""),
        ("key enable", ""),
        ("key schedule-deletion", ""),
        ("key cancel-deletion", ""),
        ("key create", "third"),
        ("key retire", "--version 1"),
        ("key assign", "default /"),
        ("key rotate", "second"),
        ("key grant", "--everyone --allow decrypt"),
        ("key revoke", "--everyone --allow decrypt"),
        ("verify", ""),
    ] {
        refused(&by(&vault, admin, command, args), 9, "does not let you");
    }
    admin.run(|| assert_eq!(errno(fs::read(mount.join("file"))), libc::EACCES));

    reader.run(|| assert_eq!(fs::read(mount.join("file")).unwrap(), b"content"));
    for command in ["key rotate", "key list", "status"] {
        assert_ne!(by(&vault, reader, command, "").code(), 0, "{command}");
    }
    // The key file is root's.
    assert_eq!(admin.run(|| errno(fs::read(vault.key_file()))), libc::EACCES);
    mount.unmount();
    // With nobody to ask, it takes the vault and the key file, which are root's.
    refused(&by(&vault, admin, "key rotate", ""), 4, "Permission denied");
}

/// Without the option the socket is the daemon's user's, whatever was granted.
#[test]
fn without_an_admin_group_nobody_else_is_heard() {
    let people = People::make();
    let vault = Vault::init();
    copy_of_binary(&vault);
    grant(&vault, &format!("--group {} --allow describe,rotate", people.group));
    let _mount = vault.mount(&["--allow-other"]);
    refused(&by(&vault, &people.member.user, "key rotate", ""), 7, "can't be asked");
}

/// Root may be kept from what it asks the daemon for; with the vault at rest it has the key file.
#[test]
fn a_denial_is_for_root_too_while_a_daemon_asks() {
    let vault = Vault::init();
    crate::common::require_root();
    let mount = vault.mount(&[]);
    grant(&vault, "--user 0 --deny rotate");
    refused(&key(&vault, "rotate", ""), 9, "rotate");
    mount.unmount();
    key(&vault, "rotate", "").ok();
}

#[test]
fn the_socket_is_the_groups() {
    let people = People::make();
    let vault = Vault::init();
    let _mount = vault.mount(&["--admin-group", &people.gid.to_string()]);
    let directory = vault.path().metadata().unwrap();
    let socket = format!("/run/atrest/{:x}-{:x}.sock", directory.dev(), directory.ino());
    let found = fs::metadata(socket).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o660, 0, people.gid));
    assert_eq!(fs::metadata("/run/atrest").unwrap().mode() & 0o066, 0);
}

/// The socket of another user's daemon lies where nobody else gets.
#[test]
fn an_admin_group_is_for_roots_mounts() {
    let people = People::make();
    let vault = Vault::init_as(&people.named.user);
    let outcome = vault.try_mount(&["--admin-group", &people.group]).err().expect("no mount");
    refused(&outcome, 2, "root");
}
