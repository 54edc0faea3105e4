//! A key file that was swapped or put back.

use std::fs;
use std::path::Path;

use crate::common::{Allow, Vault, run};

/// A vault whose key file has a passphrase, and the file with it.
fn with_passphrase() -> (Vault, std::path::PathBuf) {
    let vault = Vault::prepare();
    let passphrase = vault.scratch().join("passphrase");
    fs::write(&passphrase, "only for this test\n").unwrap();
    rustix::fs::chmod(&passphrase, 0o600.into()).unwrap();
    let cheap = ["--argon2-memory", "1", "--argon2-passes", "1", "--new-passphrase-file"];
    let mut init = vault.command(&["init"]);
    init.arg(vault.path()).arg("--key-file").arg(vault.key_file()).args(cheap).arg(&passphrase);
    run(&mut init).ok();
    (vault, passphrase)
}

/// The key file of a vault of somebody else that has the same id: what a forger would make.
fn forged_key_file(vault: &Vault) -> Vec<u8> {
    use atrest::format::VaultId;
    use atrest::keys::{KeyFile, KeyRing};
    let description = fs::read(vault.path().join(".atrest/vault.json")).unwrap();
    let description: serde_json::Value = serde_json::from_slice(&description).unwrap();
    let id: VaultId = serde_json::from_value(description["vault"].clone()).unwrap();
    let path = vault.scratch().join("forged.json");
    KeyFile::create_after(&path, &KeyRing::create(id), &[], 1_000).unwrap();
    fs::read(path).unwrap()
}

#[test]
fn a_key_file_without_its_passphrase_is_not_taken_where_one_was_given() {
    let (vault, passphrase) = with_passphrase();
    let given = format!("passphrase-file={}", passphrase.display());
    vault.mount(&["-o", &given]).unmount();
    fs::write(vault.key_file(), forged_key_file(&vault)).unwrap();
    let refusal = vault.try_mount(&["-o", &given]).err().expect("a forged key file mounts");
    assert_eq!(refusal.code(), 5, "{refusal}");
    assert!(refusal.stderr.contains("opens without a passphrase"), "{refusal}");
}

#[test]
fn a_forged_vault_with_its_key_file_is_none_that_this_machine_knows() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    // All of it made anew, with the id of the vault that was there.
    let forged = forged_key_file(&vault);
    fs::write(vault.key_file(), forged).unwrap();
    let id = fs::read_to_string(vault.path().join(".atrest/vault.json")).unwrap();
    let id: serde_json::Value = serde_json::from_str(&id).unwrap();
    let ring = atrest::keys::KeyFile::open(
        Path::new(&vault.key_file()),
        &serde_json::from_value(id["vault"].clone()).unwrap(),
        &atrest::keys::NoPassphrase,
    );
    fs::remove_dir_all(vault.path()).unwrap();
    let plain = atrest::store::NameMode::Plain;
    atrest::store::Vault::create(&vault.path(), &ring.unwrap().ring, plain).unwrap();
    let refusal = vault.try_mount(&[]).err().expect("a forged vault mounts");
    assert_eq!(refusal.code(), 11, "{refusal}");
    assert!(refusal.stderr.contains("made with other keys"), "{refusal}");
}

#[test]
fn a_running_daemon_takes_no_older_and_no_other_key_file() {
    let vault = Vault::init();
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Errors);
    let older = fs::read(vault.key_file()).unwrap();
    vault.run(&["key", "rotate"]).ok();
    let newest = fs::read(vault.key_file()).unwrap();
    // Of the same number as the newest, by another history.
    let other = later(&vault, &older, 1);
    let forged = forged_key_file(&vault);
    for (what, bytes) in [("older", &older), ("other", &other), ("forged", &forged)] {
        fs::write(vault.key_file(), bytes).unwrap();
        let refusal = vault.run(&["key", "rotate"]);
        assert_eq!(refusal.code(), 11, "{what}: {refusal}");
        assert!(refusal.stderr.contains("was put back or replaced"), "{what}: {refusal}");
        assert_eq!(&fs::read(vault.key_file()).unwrap(), bytes, "{what}: it was written");
    }
    fs::write(vault.key_file(), newest).unwrap();
    vault.run(&["key", "rotate"]).ok();
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    let mount = vault.mount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"content");
    mount.unmount();
}

/// What somebody makes of a key file that they could open, with so many changes.
fn later(vault: &Vault, bytes: &[u8], changes: u32) -> Vec<u8> {
    use atrest::keys::{KeyError, KeyFile, NoPassphrase};
    let path = vault.scratch().join("later.json");
    fs::write(&path, bytes).unwrap();
    rustix::fs::chmod(&path, 0o600.into()).unwrap();
    let id = KeyFile::vault_of(&path).unwrap();
    for _ in 0..changes {
        KeyFile::edit(&path, &id, &NoPassphrase, |_| Ok::<_, KeyError>(())).unwrap();
    }
    fs::read(&path).unwrap()
}

fn write_passphrase(vault: &Vault) -> std::path::PathBuf {
    let passphrase = vault.scratch().join("passphrase");
    fs::write(&passphrase, "only for this test\n").unwrap();
    rustix::fs::chmod(&passphrase, 0o600.into()).unwrap();
    passphrase
}

fn add_passphrase(vault: &Vault) -> crate::common::Outcome {
    let mut protect = vault.command(&["key", "protector", "add"]);
    protect.arg(vault.path()).args(["--argon2-memory", "1", "--argon2-passes", "1"]);
    run(protect.arg("--new-passphrase-file").arg(write_passphrase(vault)))
}

#[test]
fn no_command_beside_a_mount_makes_an_older_key_file_the_newest() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let older = fs::read(vault.key_file()).unwrap();
    let mut grant = vault.command(&["key", "grant"]);
    run(grant.arg(vault.path()).args(["--user", "nobody", "--allow", "decrypt"])).ok();
    let newest = fs::read(vault.key_file()).unwrap();
    let backup = || {
        let mut backup = vault.command(&["key", "backup"]);
        run(backup.arg(vault.path()).arg(vault.scratch().join("backup")))
    };
    for older in [older.clone(), later(&vault, &older, 1)] {
        fs::write(vault.key_file(), &older).unwrap();
        for refusal in [add_passphrase(&vault), backup()] {
            assert_eq!(refusal.code(), 11, "{refusal}");
            assert!(refusal.stderr.contains("was put back or replaced"), "{refusal}");
        }
        assert_eq!(fs::read(vault.key_file()).unwrap(), older, "it was written");
    }
    fs::write(vault.key_file(), newest).unwrap();
    mount.unmount();
}

#[test]
fn what_a_protector_changed_beside_a_mount_does_not_come_back() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let open_to_all = fs::read(vault.key_file()).unwrap();
    add_passphrase(&vault).ok();
    // The daemon, which has no passphrase, goes on.
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    let given = format!("passphrase-file={}", vault.scratch().join("passphrase").display());
    vault.mount(&["-o", &given]).unmount();
    // Also not in a higher number: it has another anchor.
    let forged = later(&vault, &open_to_all, 50);
    for (bytes, what) in [(open_to_all, "is of state 1"), (forged, "has another anchor")] {
        fs::write(vault.key_file(), bytes).unwrap();
        let refusal = vault.try_mount(&[]).err().expect("a key file that was put back is used");
        assert_eq!(refusal.code(), 11, "{refusal}");
        assert!(refusal.stderr.contains(what), "{refusal}");
    }
    vault.mount(&["--accept-rollback"]).allow(Allow::Warnings);
}

#[test]
fn a_vault_that_was_not_told_of_the_newest_key_file_is_not_asked() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let state = vault.path().join(".atrest/state.json");
    let before = fs::read(&state).unwrap();
    add_passphrase(&vault).ok();
    // As on a filesystem that could not be written.
    fs::write(&state, before).unwrap();
    let given = format!("passphrase-file={}", vault.scratch().join("passphrase").display());
    let mount = vault.mount(&["-o", &given]);
    assert_eq!(mount.status_json()["freshness"]["found"], "fresh");
    mount.unmount();
}

#[test]
fn another_key_file_of_the_same_number_is_refused() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let older = fs::read(vault.key_file()).unwrap();
    vault.run(&["key", "rotate"]).ok();
    let newest = fs::read(vault.key_file()).unwrap();
    fs::write(vault.key_file(), later(&vault, &older, 1)).unwrap();
    let record = vault.scratch().join("home/state/atrest");
    for is_known_here in [true, false] {
        if !is_known_here {
            // The vault knows by itself.
            for entry in fs::read_dir(&record).unwrap() {
                let path = entry.unwrap().path();
                if path.extension().is_some_and(|end| end == "freshness") {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        for refusal in [vault.run(&["key", "rotate"]), vault.try_mount(&[]).err().unwrap()] {
            assert_eq!(refusal.code(), 11, "{refusal}");
            assert!(refusal.stderr.contains("is another one of state 2"), "{refusal}");
        }
    }
    fs::write(vault.key_file(), newest).unwrap();
    // What the machine keeps is missing still.
    vault.mount(&["--accept-rollback"]).allow(Allow::Warnings);
}

/// Commands that only show what it holds tell that, and show it.
#[test]
fn an_older_key_file_is_shown_with_a_warning() {
    let vault = Vault::init();
    vault.run(&["key", "rotate"]).ok();
    vault.mount(&[]).unmount();
    let older = fs::read(vault.key_file()).unwrap();
    let commands = [["key", "list"], ["key", "protector"], ["key", "describe"], ["policy", "show"]];
    let show = |command: [&str; 2]| match command[1] {
        "protector" => vault.run(&["key", "protector", "list"]).ok(),
        _ => vault.run(&command).ok(),
    };
    let before = commands.map(show);
    let put_back = |what: &str| {
        fs::write(vault.key_file(), &older).unwrap();
        for (command, before) in commands.into_iter().zip(&before) {
            let now = show(command);
            assert_eq!(now.stdout, before.stdout, "{command:?}");
            assert_eq!(before.stderr, "", "{command:?}");
            assert_eq!(now.stderr.lines().count(), 1, "{command:?}: {now}");
            assert!(now.stderr.contains(what), "{command:?}: {now}");
            assert!(now.stderr.contains("may not be what is in force"), "{command:?}: {now}");
        }
    };
    add_passphrase(&vault).ok();
    put_back("is of state 2, and was of state 3 when last used with it");
    // Its protectors were changed in an older state; whatever is done there, the vault needs it.
    vault.mount(&["--accept-rollback"]).allow(Allow::Warnings);
    vault.run(&["key", "rotate"]).ok();
    vault.run(&["key", "rewrap"]).ok();
    put_back("has no version 3");
}

#[test]
fn a_key_file_that_lacks_the_version_of_the_vault_is_an_older_one() {
    let vault = Vault::init();
    let older = fs::read(vault.key_file()).unwrap();
    vault.run(&["key", "rotate"]).ok();
    vault.run(&["key", "rewrap"]).ok();
    fs::write(vault.key_file(), &older).unwrap();
    for refusal in [vault.run(&["key", "rotate"]), vault.try_mount(&[]).err().unwrap()] {
        assert_eq!(refusal.code(), 11, "{refusal}");
        assert!(refusal.stderr.contains("has no version 2"), "{refusal}");
    }
    assert_eq!(fs::read(vault.key_file()).unwrap(), older, "it was written");
}

#[test]
fn a_key_file_restored_from_its_backup_is_as_new_as_the_lost_one() {
    let vault = Vault::init();
    let backup = vault.scratch().join("backup");
    vault.mount(&[]).unmount();
    run(vault.command(&["key", "backup"]).arg(vault.path()).arg(&backup)).ok();
    fs::remove_file(vault.key_file()).unwrap();
    let mut restore = vault.command(&["key", "restore"]);
    run(restore.arg(vault.path()).arg(&backup)).ok();
    let mount = vault.mount(&[]);
    assert_eq!(mount.status_json()["freshness"]["found"], "fresh");
    mount.unmount();
}

#[test]
fn no_command_makes_a_key_file_that_was_put_back_the_newest() {
    let vault = Vault::init();
    vault.run(&["key", "rotate"]).ok();
    let older = fs::read(vault.key_file()).unwrap();
    let grant = |command: &str| {
        let mut line = vault.command(&["key", command]);
        run(line.arg(vault.path()).args(["--user", "nobody", "--allow", "decrypt"]))
    };
    grant("grant").ok();
    vault.mount(&[]).unmount();
    fs::write(vault.key_file(), older).unwrap();
    for refusal in [vault.run(&["key", "rotate"]), grant("grant"), add_passphrase(&vault)] {
        assert_eq!(refusal.code(), 11, "{refusal}");
        assert!(refusal.stderr.contains("its key file is of state"), "{refusal}");
    }
    assert!(vault.try_mount(&[]).is_err(), "it is the newest by now");
}

/// Also where its master key is out of use, so that the vault itself can't be opened.
#[test]
fn a_key_file_that_was_put_back_with_a_disabled_key_is_not_the_newest() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    vault.run(&["key", "disable"]).ok();
    let disabled = fs::read(vault.key_file()).unwrap();
    vault.run(&["key", "enable"]).ok();
    let mut deny = vault.command(&["key", "grant"]);
    run(deny.arg(vault.path()).args(["--user", "nobody", "--deny", "decrypt"])).ok();
    vault.mount(&[]).unmount();
    fs::write(vault.key_file(), &disabled).unwrap();
    let refusal = vault.run(&["key", "enable"]);
    assert_eq!(refusal.code(), 11, "{refusal}");
    assert_eq!(fs::read(vault.key_file()).unwrap(), disabled, "it was written");
    let shown = vault.run(&["key", "list"]).ok();
    assert!(shown.stderr.contains("may not be what is in force"), "{shown}");
}

/// That a key was disabled while nobody had the vault open is known from then on.
#[test]
fn a_disabled_key_is_not_enabled_by_an_older_key_file() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    for change in [["key", "disable"], ["key", "schedule-deletion"]] {
        let older = fs::read(vault.key_file()).unwrap();
        vault.run(&change).ok();
        let newer = fs::read(vault.key_file()).unwrap();
        fs::write(vault.key_file(), older).unwrap();
        let refusal = vault.try_mount(&[]).err().expect("an older key file");
        assert_eq!(refusal.code(), 11, "{change:?}: {refusal}");
        fs::write(vault.key_file(), newer).unwrap();
        vault
            .run(&[change[0], if change[1] == "disable" { "enable" } else { "cancel-deletion" }])
            .ok();
    }
}
