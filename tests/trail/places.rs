//! Where a trail may lie, and mounts that keep none.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use atrest::keys::{KeyFile, NoPassphrase};
use atrest::store::NameMode;

use crate::common::{Scratch, Vault, require_root, run, vault};
use crate::{assert_whole, directory, files_in, lines, names, one_sentence, trail};

#[test]
fn not_in_the_vault_or_the_mount() {
    require_root();
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    for place in ["vault/trail", "mnt/trail", "vault/.atrest/trail", "mnt", "log/../vault/a/b"] {
        let place = vault.scratch().join(place);
        for option in [
            vec!["--trail", place.to_str().unwrap()],
            vec!["-o", &format!("trail={}", place.display())],
        ] {
            one_sentence(&vault.try_mount(&option).err().expect("no mount"), 2, "--trail");
        }
    }
    assert!(!vault.scratch().join("vault/trail").exists());
    assert_eq!(fs::read_dir(vault.mountpoint()).unwrap().count(), 0);
    // A mount that was refused was none, and the trail misses nothing.
    assert_whole(&vault);
    let closed = ["--trail", "/proc/x", "--trail-fail", "closed"];
    one_sentence(&vault.try_mount(&closed).err().expect("no mount"), 10, "/proc/x");
    assert_whole(&vault);
}

#[test]
fn not_where_others_can_change_it() {
    require_root();
    let vault = Vault::init();
    let place = vault.scratch().make_dir("trail");
    let options = ["--trail", place.to_str().unwrap(), "--trail-fail", "closed"];
    one_sentence(&vault.try_mount(&options).err().expect("no mount"), 10, "chmod 700");
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    let mount = vault.mount(&options);
    mount.unmount();
    // The vault says where it lies from then on.
    assert_eq!(names(&lines(&vault, "")), ["TrailBegin", "Mount", "Unmount"]);
    assert!(!directory(&vault).exists());
    let mount = vault.mount(&[]);
    assert_eq!(mount.status_json()["trail"]["directory"].as_str(), place.to_str());
    mount.unmount();
    assert_eq!(files_in(&place).len(), 1);
    assert_whole(&vault);
}

#[test]
fn two_mounts_do_not_write_one() {
    require_root();
    let vault = Vault::init();
    let copy = Vault::prepare();
    let from = vault.path().join(".");
    run(Command::new("cp").arg("-a").arg(from).arg(copy.path())).ok();
    let place = directory(&vault);
    let key_file = vault.key_file();
    let options = ["--trail", place.to_str().unwrap(), "--key-file", key_file.to_str().unwrap()];
    let mount = vault.mount(&[]);
    let closed = [&options[..], &["--trail-fail", "closed"]].concat();
    let refused = copy.try_mount(&closed).err().expect("no mount");
    one_sentence(&refused, 10, "being written by another process");
    let mut second = copy.mount(&options);
    second.expect_line("being written by another process");
    fs::write(second.join("of-the-copy"), b"content").unwrap();
    second.unmount();
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    assert_eq!(names(&lines(&vault, "")), ["TrailBegin", "Mount", "GenerateDataKey", "Unmount"]);
    assert_whole(&vault);
}

#[test]
fn no_trail_leaves_nothing() {
    require_root();
    let vault = Vault::init();
    for option in [["--no-trail", "--allow-other"], ["-o", "no-trail"]] {
        let mount = vault.mount(&option);
        fs::write(mount.join("file"), b"content").unwrap();
        assert!(mount.status_json()["trail"].is_null());
        mount.unmount();
    }
    assert!(!directory(&vault).exists());
    assert!(!vault.path().join(".atrest/trail.json").exists());
    one_sentence(&trail(&vault, "query", ""), 10, "there is no trail");
    for option in ["--trail-sync", "--trail-journald"] {
        let outcome = vault.try_mount(&["--no-trail", option]).err().expect("no mount");
        assert_eq!(outcome.code(), 2, "{outcome}");
    }
}

/// A trail that was kept before does not look as if it had been set back.
#[test]
fn no_trail_spoils_none() {
    require_root();
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let before = lines(&vault, "");
    for options in [&["--no-trail"][..], &["--no-trail"], &["--no-trail", "--read-only"]] {
        let mount = vault.mount(options);
        assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
        mount.unmount();
        assert_eq!(lines(&vault, ""), before);
        assert_whole(&vault);
    }
    vault.mount(&[]).unmount();
    assert_eq!(lines(&vault, "").len(), before.len() + 2);
    assert_whole(&vault);
    // Two of them were mounts that count, and they are told of.
    let said = trail(&vault, "verify", "").ok();
    assert!(said.stdout.contains("2 mounts kept no trail, as told"), "{said}");
    let json: serde_json::Value =
        serde_json::from_str(&trail(&vault, "verify", "--json").ok().stdout).unwrap();
    assert_eq!(json["without_trail"], 2);
}

/// Who writes to the vault can't have a trail of their own read.
#[test]
fn the_vault_alone_is_not_believed_where_it_lies() {
    require_root();
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let known = lines(&vault, "");
    let seal = vault.path().join(".atrest/trail.json");
    let whole = fs::read_to_string(&seal).unwrap();
    let elsewhere = vault.scratch().join("elsewhere");
    run(Command::new("cp").arg("-a").arg(directory(&vault)).arg(&elsewhere)).ok();
    let from = directory(&vault).display().to_string();
    let forged = whole.replace(&from, &elsewhere.display().to_string());
    assert!(forged != whole);
    fs::write(&seal, forged).unwrap();
    for command in ["query", "tail", "verify"] {
        one_sentence(&trail(&vault, command, ""), 10, "record of its trail was changed");
    }
    let mut query = vault.command(&["trail", "query"]);
    query.arg(vault.path()).args(["--key-file", "/nowhere"]);
    one_sentence(&run(&mut query), 10, "name the place with --trail");
    fs::write(&seal, whole).unwrap();
    // The default place takes no key.
    let mut query = vault.command(&["trail", "query"]);
    query.arg(vault.path()).args(["--key-file", "/nowhere", "--json"]);
    assert_eq!(run(&mut query).ok().stdout.lines().count(), known.len());
    // Another place is confirmed by the key file.
    let place = vault.scratch().make_dir("trail");
    fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
    vault.mount(&["--trail", place.to_str().unwrap()]).unmount();
    assert!(!lines(&vault, "").is_empty());
}

/// All there is in the vault's directory.
fn snapshot(vault: &Vault) -> Vec<(String, Vec<u8>)> {
    let entries = |dir: &str| -> Vec<_> {
        let dir = vault.path().join(dir);
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
    };
    let mut found: Vec<_> = [entries(""), entries(".atrest")]
        .concat()
        .into_iter()
        .filter(|path| path.is_file())
        .map(|path| (path.to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    found.sort();
    found
}

#[test]
fn a_mount_for_reading_alone_keeps_one() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    let (before, known) = (snapshot(&vault), lines(&vault, "").len());
    let mount = vault.mount(&["--read-only"]);
    fs::read(mount.join("file")).unwrap();
    mount.unmount();
    assert!(snapshot(&vault) == before, "it wrote in the vault");
    assert_eq!(names(&lines(&vault, "")[known..]), ["Mount", "Decrypt", "Unmount"]);
    assert_whole(&vault);
    vault.mount(&[]).unmount();
    assert_whole(&vault);
}

/// A vault and a key file of before there was a trail.
#[test]
fn an_old_key_file_gets_a_key_for_it() {
    require_root();
    let vault = Vault::prepare_in(Scratch::new(), vault::binary().to_owned());
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    fs::copy(fixtures.join("keys-before-trails.json"), vault.key_file()).unwrap();
    fs::set_permissions(vault.key_file(), Permissions::from_mode(0o600)).unwrap();
    let id = KeyFile::vault_of(&vault.key_file()).unwrap();
    let ring = KeyFile::open(&vault.key_file(), &id, &NoPassphrase).unwrap().ring;
    atrest::store::Vault::create(&vault.path(), &ring, NameMode::Plain).unwrap();
    let before = fs::read(vault.key_file()).unwrap();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), [7; 11_936]).unwrap();
    mount.unmount();
    let after = fs::read(vault.key_file()).unwrap();
    assert!(after != before, "it has no key for the trail");
    assert_whole(&vault);
    let mount = vault.mount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap().len(), 11_936);
    mount.unmount();
    assert!(fs::read(vault.key_file()).unwrap() == after, "it got another");
    assert_whole(&vault);
    assert_eq!(lines(&vault, "--event Decrypt").len(), 1);
    crate::key(&vault, "list", "").ok();
}

/// A vault, where its trail was, and the state directory of somebody who never saw it.
fn without_its_trail() -> (Vault, PathBuf, PathBuf) {
    require_root();
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let old = directory(&vault);
    fs::remove_dir_all(&old).unwrap();
    let elsewhere = vault.scratch().join("elsewhere");
    (vault, old, elsewhere)
}

/// The vault's word for a directory makes none for a user who sees the vault for the first time.
#[test]
fn another_users_place_is_not_made() {
    let (vault, old, elsewhere) = without_its_trail();
    let other = |words: &[&str]| {
        let mut command = vault.command(words);
        command.env("XDG_STATE_HOME", &elsewhere).arg(vault.path());
        command
    };
    // Also where another command is the first to see it.
    let told = run(&mut other(&["verify"])).ok();
    assert!(told.stderr.contains("from now on it is kept in"), "{told}");
    let told = run(other(&["mount"]).arg(vault.mountpoint())).ok();
    run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
    assert!(!told.stderr.contains("from now on"), "{told}");
    assert!(!old.exists());
    let new = elsewhere.join("atrest").join(old.file_name().unwrap());
    assert_eq!(files_in(&new).len(), 1);
}

#[test]
fn another_users_place_is_not_made_by_a_mount() {
    let (vault, old, elsewhere) = without_its_trail();
    let mut mount = vault.command(&["mount"]);
    mount.env("XDG_STATE_HOME", &elsewhere).arg(vault.path()).arg(vault.mountpoint());
    let told = run(&mut mount).ok();
    run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
    assert!(told.stderr.contains("from now on it is kept in"), "{told}");
    assert!(!old.exists());
}
