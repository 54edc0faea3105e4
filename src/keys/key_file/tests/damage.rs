//! Key files that are not what was written.

use std::fs::{self, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::Command;

use crate::keys::tests::*;

/// Puts `bytes` where the key file is, and opens that.
fn open_as(scratch: &Scratch, bytes: &[u8]) -> Result<OpenKeyFile, KeyError> {
    // In place: ext4 flushes a file that is cut to nothing and written again.
    let file = fs::OpenOptions::new().write(true).open(scratch.path()).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    scratch.open(&secret_of("p"))
}

#[test]
fn every_byte_matters() {
    for protectors in [vec![NewProtector::Raw], vec![cheap("p")], vec![cheap("p"), cheap("q")]] {
        let scratch = Scratch::with(&protectors);
        let bytes = fs::read(scratch.path()).unwrap();
        for at in 0..bytes.len() {
            for flip in [0x01, 0x02, 0x20, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= flip;
                if changed[at].is_ascii_whitespace() && bytes[at].is_ascii_whitespace() {
                    continue;
                }
                let opened = open_as(&scratch, &changed);
                assert!(opened.is_err(), "byte {at} ^ {flip:#x}: {}", bytes[at].escape_ascii());
            }
        }
        assert!(open_as(&scratch, &bytes).is_ok());
    }
}

#[test]
fn every_cut_and_every_addition_is_found() {
    let scratch = Scratch::with(&[NewProtector::Raw]);
    let bytes = fs::read(scratch.path()).unwrap();
    for length in 0..bytes.len() - 1 {
        let opened = open_as(&scratch, &bytes[..length]);
        assert!(
            matches!(opened, Err(KeyError::KeyFile(KeyFileError::Damaged(_)))),
            "{length} bytes"
        );
    }
    assert!(open_as(&scratch, &bytes[..bytes.len() - 1]).is_ok(), "a newline is white space");
    let text = String::from_utf8(bytes).unwrap();
    for changed in [
        format!("{text}x"),
        text.replacen('{', "{\"more\":1,", 1),
        text.replacen("\"generation\":1", "\"generation\":1,\"generation\":1", 1),
        text.replacen("\"generation\":1", "\"generation\":2", 1),
        text.replacen("\"generation\":1", "\"generation\":1.0", 1),
        text.replacen("\"raw\":{", "\"raw\":{\"more\":1,", 1),
        "[]".into(),
        "{}".into(),
        " ".into(),
        "null".into(),
        "[".repeat(100_000),
    ] {
        let opened = open_as(&scratch, changed.as_bytes());
        assert!(matches!(opened, Err(KeyError::KeyFile(KeyFileError::Damaged(_)))), "{changed}");
    }
    let spaced = text.replace(",\"", " ,\n\t\"");
    assert!(open_as(&scratch, spaced.as_bytes()).is_ok());
}

#[test]
fn parts_of_two_states_do_not_make_a_third() {
    let scratch = Scratch::with(&[cheap("p"), cheap("q")]);
    let read = || serde_json::from_slice::<serde_json::Value>(&fs::read(scratch.path()).unwrap());
    let old = read().unwrap();
    scratch.update(&secret_of("p"), |ring| ring.rotate(DEFAULT_KEY)).unwrap();
    let new = read().unwrap();
    for field in ["generation", "protectors", "body"] {
        let mut mixed = new.clone();
        mixed[field] = old[field].clone();
        assert!(open_as(&scratch, mixed.to_string().as_bytes()).is_err(), "{field}");
    }
    let mut fewer = new.clone();
    fewer["protectors"].as_array_mut().unwrap().pop();
    assert!(open_as(&scratch, fewer.to_string().as_bytes()).is_err());
}

#[test]
fn a_file_from_the_future_says_so() {
    let scratch = Scratch::with(&[]);
    let text = fs::read_to_string(scratch.path()).unwrap();
    let future = text.replacen("\"atrest_key_file\":1", "\"atrest_key_file\":2,\"x\":[]", 1);
    let opened = open_as(&scratch, future.as_bytes());
    assert!(matches!(
        opened,
        Err(KeyError::KeyFile(KeyFileError::FromTheFuture { version: 2, .. }))
    ));
}

#[test]
fn a_file_of_another_vault_says_so() {
    let (one, other) = (Scratch::with(&[]), Scratch::with(&[cheap("p")]));
    let opened = KeyFile::open(&one.path(), &other.vault(), &NoPassphrase);
    let expected = (one.vault(), other.vault());
    assert!(
        matches!(opened, Err(KeyError::KeyFile(KeyFileError::OtherVault { found, wanted, .. })) if (found, wanted) == expected)
    );
    assert_eq!(KeyFile::vault_of(&other.path()).unwrap(), other.vault());
    // Saying that it belongs to this vault does not make it so.
    let text = fs::read_to_string(one.path()).unwrap();
    let claimed = text.replace(&one.vault().to_string(), &other.vault().to_string());
    assert!(matches!(
        open_as(&other, claimed.as_bytes()),
        Err(KeyError::KeyFile(KeyFileError::Damaged(_)))
    ));
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let scratch = Scratch::new();
    assert!(matches!(
        scratch.open(&NoPassphrase),
        Err(KeyError::KeyFile(KeyFileError::Missing(_)))
    ));
    let updated = scratch.update(&NoPassphrase, |ring| ring.rotate(DEFAULT_KEY));
    assert!(matches!(updated, Err(KeyError::KeyFile(KeyFileError::Missing(_)))));
    fs::create_dir(scratch.path()).unwrap();
    assert!(matches!(
        scratch.open(&NoPassphrase),
        Err(KeyError::KeyFile(KeyFileError::NotRegular(_)))
    ));
    fs::remove_dir(scratch.path()).unwrap();
    let made = Command::new("mkfifo").args(["-m", "600"]).arg(scratch.path()).status().unwrap();
    assert!(made.success());
    assert!(matches!(
        scratch.open(&NoPassphrase),
        Err(KeyError::KeyFile(KeyFileError::NotRegular(_)))
    ));
    fs::remove_file(scratch.path()).unwrap();
    let large = fs::File::create(scratch.path()).unwrap();
    large.set_permissions(Permissions::from_mode(0o600)).unwrap();
    large.set_len(1 << 40).unwrap();
    assert!(matches!(
        scratch.open(&NoPassphrase),
        Err(KeyError::KeyFile(KeyFileError::Damaged(_)))
    ));
}

#[test]
fn a_symlink_keeps_pointing_at_the_file() {
    let scratch = Scratch::with(&[]);
    let link = scratch.beside(".link");
    symlink("keys.json", &link).unwrap();
    let rotate = |file: &mut OpenKeyFile| file.ring.rotate(DEFAULT_KEY);
    let (rotated, _) = KeyFile::edit(&link, &scratch.vault(), &NoPassphrase, rotate).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(scratch.open(&NoPassphrase).unwrap().ring.default_key().current(), rotated);
}

#[test]
fn costs_that_would_take_the_machine_are_refused() {
    let scratch = Scratch::with(&[cheap("p")]);
    let text = fs::read_to_string(scratch.path()).unwrap();
    for (from, to) in [
        ("\"memory_kib\":8", "\"memory_kib\":4194305"),
        ("\"memory_kib\":8", "\"memory_kib\":7"),
        ("\"passes\":1", "\"passes\":1001"),
        ("\"passes\":1", "\"passes\":0"),
        ("\"lanes\":1", "\"lanes\":65"),
        ("\"lanes\":1", "\"lanes\":0"),
    ] {
        let opened = open_as(&scratch, text.replacen(from, to, 1).as_bytes());
        assert!(matches!(opened, Err(KeyError::Protector(ProtectorError::BadCost))), "{to}");
    }
    let fewer = text.replacen("\"memory_kib\":8", "\"memory_kib\":9", 1);
    assert!(matches!(
        open_as(&scratch, fewer.as_bytes()),
        Err(KeyError::Protector(ProtectorError::WrongPassphrase(_)))
    ));
}
