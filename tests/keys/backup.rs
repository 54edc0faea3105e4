//! The key file is lost, the vault is whole: what was printed brings it back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::common::{Vault, run, write_secret};
use crate::{key, key_json};

fn vault_with_history() -> Vault {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("old"), b"old").unwrap();
    key(&vault, &["rotate"], &[]).ok();
    key(&vault, &["create"], &["second"]).ok();
    fs::create_dir(mount.join("dir")).unwrap();
    key(&vault, &["assign"], &["second", "dir"]).ok();
    fs::write(mount.join("dir/new"), b"new").unwrap();
    mount.unmount();
    vault
}

/// Loses the key file with all that lies beside it.
fn lose_key_file(vault: &Vault) {
    for entry in fs::read_dir(vault.key_file().parent().unwrap()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(vault.try_mount(&[]).err().expect("a mount without a key file").code(), 5);
}

fn restored_from(vault: &Vault, backup: &Path) {
    let keys = key_json(vault, &["list"], &[])["keys"].clone();
    lose_key_file(vault);
    key(vault, &["restore"], &[backup.to_str().unwrap()]).ok();
    assert_eq!(key_json(vault, &["list"], &[])["keys"], keys);
    let mode = fs::metadata(vault.key_file()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let mount = vault.mount(&[]);
    assert_eq!(fs::read(mount.join("old")).unwrap(), b"old");
    assert_eq!(fs::read(mount.join("dir/new")).unwrap(), b"new");
    mount.unmount();
    vault.verify();
}

#[test]
fn from_the_text() {
    let vault = vault_with_history();
    let backup = vault.scratch().join("backup.txt");
    key(&vault, &["backup"], &["backup.txt"]).ok();
    assert_eq!(fs::metadata(&backup).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&backup).unwrap();
    assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 72), "{text}");
    // It is not overwritten.
    let again = key(&vault, &["backup"], &["backup.txt"]);
    assert_eq!(again.code(), 1, "{again}");
    assert_eq!(fs::read_to_string(&backup).unwrap(), text);
    restored_from(&vault, &backup);
}

#[test]
fn from_the_words() {
    let vault = vault_with_history();
    let words = key(&vault, &["backup"], &["--words"]).ok().stdout;
    assert!(words.split_whitespace().all(|word| word.chars().all(|c| c.is_ascii_lowercase())));
    // Copied by hand: four a line, numbered, some in capitals.
    let words: Vec<_> = words.split_whitespace().collect();
    let copied: Vec<_> = words
        .chunks(4)
        .enumerate()
        .map(|(line, words)| format!("{}. {}", line + 1, words.join(" ").to_uppercase()))
        .collect();
    let backup = vault.scratch().join("words.txt");
    fs::write(&backup, copied.join("\n")).unwrap();
    restored_from(&vault, &backup);
}

#[test]
fn from_the_code() {
    let vault = vault_with_history();
    let image = key(&vault, &["backup"], &["--qr"]).ok().stdout;
    let backup = vault.scratch().join("scanned.txt");
    fs::write(&backup, scan(&image)).unwrap();
    restored_from(&vault, &backup);
}

/// Reads a QR code off the terminal, dark where a character leaves the dark ground.
fn scan(image: &str) -> String {
    let rows: Vec<Vec<bool>> = image
        .lines()
        .flat_map(|line| {
            let half = |upper: bool| {
                line.chars()
                    .map(|block| match block {
                        '█' => true,
                        '▀' => upper,
                        '▄' => !upper,
                        _ => false,
                    })
                    .collect()
            };
            [half(true), half(false)]
        })
        .collect();
    // Four pixels a module; light is drawn, dark is left.
    const SCALE: usize = 4;
    let (width, height) = (rows[0].len(), rows.len());
    let lit = |x: usize, y: usize| rows[y / SCALE].get(x / SCALE).copied().unwrap_or(false);
    let mut image =
        rqrr::PreparedImage::prepare_from_greyscale(width * SCALE, height * SCALE, |x, y| {
            if lit(x, y) { 255 } else { 0 }
        });
    let grids = image.detect_grids();
    assert_eq!(grids.len(), 1, "one code");
    grids[0].decode().expect("a code that reads").1
}

#[test]
fn with_a_passphrase_at_once() {
    let vault = vault_with_history();
    key(&vault, &["backup"], &["backup.txt"]).ok();
    lose_key_file(&vault);
    let passphrase = vault.scratch().join("passphrase");
    write_secret(&passphrase, b"for tests\n");
    let passphrase = passphrase.to_str().unwrap();
    let new = ["--new-passphrase-file", passphrase, "--argon2-memory", "8", "--argon2-passes", "1"];
    key(&vault, &["restore"], &[&["backup.txt"][..], &new].concat()).ok();
    assert_eq!(key(&vault, &["list"], &[]).code(), 5);
    key(&vault, &["list"], &["--passphrase-file", passphrase]).ok();
}

#[test]
fn what_is_no_backup_of_this_vault_restores_nothing() {
    let (vault, other_vault) = (vault_with_history(), vault_with_history());
    key(&vault, &["backup"], &["backup.txt"]).ok();
    let text = fs::read_to_string(vault.scratch().join("backup.txt")).unwrap();
    let others = other_vault.scratch().join("backup.txt");
    key(&other_vault, &["backup"], &["backup.txt"]).ok();
    let refused = |file: &Path, code: i32, word: &str| {
        let outcome = key(&vault, &["restore"], &[file.to_str().unwrap()]);
        assert_eq!(outcome.code(), code, "{outcome}");
        assert!(outcome.stderr.contains(word), "{outcome}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome}");
    };
    // There is a key file: it stays.
    let before = fs::read(vault.key_file()).unwrap();
    refused(&vault.scratch().join("backup.txt"), 5, "not overwritten");
    assert_eq!(fs::read(vault.key_file()).unwrap(), before);

    lose_key_file(&vault);
    let of = atrest::store::Vault::describe(&other_vault.path()).unwrap().vault;
    refused(&others, 5, &format!("is of vault {of}"));
    let odd = vault.scratch().join("odd");
    // A slip of the pen in the first line of the key's own, past its number.
    let at = text.find("\n\n").unwrap() + 8;
    let other = if text.as_bytes()[at] == b'7' { "8" } else { "7" };
    let slip = format!("{}{other}{}", &text[..at], &text[at + 1..]);
    for (content, word) in [
        (slip.as_str(), "line"),
        (&text[..text.len() / 2], ""),
        ("", ""),
        ("abandon ability able\n", ""),
        ("nonsense words\n", "word 1"),
    ] {
        fs::write(&odd, content).unwrap();
        refused(&odd, 5, word);
    }
    refused(Path::new("/nowhere/at/all"), 1, "/nowhere/at/all");
    assert!(!vault.key_file().exists());
    let mounted = vault_with_history();
    key(&mounted, &["backup"], &["backup.txt"]).ok();
    let mount = mounted.mount(&[]);
    let busy = run(mounted.command(&["key", "restore"]).arg(mounted.path()).args([
        "backup.txt",
        "--key-file",
        "another.json",
    ]));
    assert_eq!(busy.code(), 7, "{busy}");
    mount.unmount();
}

#[test]
fn a_backup_of_before_a_rotation_is_told_and_refused() {
    let vault = Vault::init();
    key(&vault, &["backup"], &["older.txt"]).ok();
    let rotated = key(&vault, &["rotate"], &[]).ok();
    let again = "Back up the keys again: older backups do not open what is written from now on.";
    assert!(rotated.stdout.contains(again), "{rotated}");
    let mount = vault.mount(&[]);
    fs::write(mount.join("new"), b"new").unwrap();
    mount.unmount();
    lose_key_file(&vault);
    let restored = key(&vault, &["restore"], &["older.txt"]).ok();
    assert!(restored.stderr.contains("this backup is older than the key file"), "{restored}");
    assert!(restored.stdout.contains("Grants and policies are not in a backup"), "{restored}");
    // No second version 2 comes of it.
    for refused in [vault.try_mount(&[]).err().expect("no mount"), key(&vault, &["rotate"], &[])] {
        assert_eq!(refused.code(), 11, "{refused}");
        assert!(refused.stderr.contains("lacks versions that it had"), "{refused}");
    }
    let mut mount = vault.mount(&["--accept-rollback"]);
    mount.allow(crate::common::Allow::Warnings);
    mount.expect_line("the header names version 2");
    assert!(fs::read(mount.join("new")).is_err());
    mount.unmount();
    // Who goes on all the same has another version 2, and is told of that.
    key(&vault, &["rotate"], &[]).ok();
    let verified = vault.run(&["verify"]);
    assert_eq!(verified.code(), 3, "{verified}");
    assert!(verified.stdout.contains("of an older or another backup"), "{verified}");
    assert!(verified.stderr.contains("damaged in 1 place\n"), "{verified}");
}

#[test]
fn a_new_key_wants_a_new_backup_too() {
    let vault = Vault::init();
    key(&vault, &["backup"], &["older.txt"]).ok();
    let created = key(&vault, &["create"], &["second"]).ok();
    assert!(created.stdout.contains("Back up the keys again"), "{created}");
    lose_key_file(&vault);
    let restored = key(&vault, &["restore"], &["older.txt", "--json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&restored.stdout).unwrap();
    assert_eq!(json["older"], true, "{restored}");
    assert_eq!(vault.try_mount(&[]).err().expect("no mount").code(), 11);
}
