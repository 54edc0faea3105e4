//! The key file on disk: what is written is read, and nothing else is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use crate::crypto::Secret;
use crate::keys::tests::*;

#[test]
fn a_ring_comes_back_from_its_file() {
    let scratch = Scratch::with(&[]);
    let key = Secret::random();
    let (id, version, wrap) = scratch.ring.wrap(DEFAULT_KEY, &[1; 16], &key).unwrap();
    let file = scratch.open(&NoPassphrase).unwrap();
    assert_eq!(file.ring.unwrap(&id, version, &[1; 16], &wrap).unwrap().expose(), key.expose());
    assert_eq!(file.ring.describe(), scratch.ring.describe());
    assert_eq!(file.generation(), 1);

    let (rotated, file) = scratch.update(&NoPassphrase, |ring| ring.rotate(DEFAULT_KEY)).unwrap();
    assert_eq!(file.ring.key(DEFAULT_KEY).unwrap().current(), rotated);
    let file = scratch.open(&NoPassphrase).unwrap();
    assert_eq!((file.ring.default_key().current(), file.generation()), (rotated, 2));
    assert!(file.ring.unwrap(&id, version, &[1; 16], &wrap).is_ok());
}

#[test]
fn files_and_directories_are_the_owners_alone() {
    let scratch = Scratch::new();
    let path = scratch.directory.path().join("a/b/keys.json");
    KeyFile::create(&path, &scratch.ring, &[]).unwrap();
    KeyFile::edit(&path, &scratch.vault(), &NoPassphrase, |file| file.ring.rotate(DEFAULT_KEY))
        .unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for name in ["keys.json", "keys.json.prev", "keys.json.lock"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 3);
}

#[test]
fn a_file_that_exists_is_not_overwritten() {
    let scratch = Scratch::with(&[]);
    let before = fs::read(scratch.path()).unwrap();
    let created = KeyFile::create(&scratch.path(), &scratch.ring, &[]);
    assert!(matches!(created, Err(KeyError::KeyFile(KeyFileError::Exists(_)))));
    assert_eq!(fs::read(scratch.path()).unwrap(), before);
}

#[test]
fn what_others_can_read_or_write_is_refused() {
    let scratch = Scratch::with(&[]);
    for mode in [0o640, 0o604, 0o620, 0o602, 0o601, 0o777] {
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(mode)).unwrap();
        let refused = scratch.open(&NoPassphrase);
        assert!(
            matches!(refused, Err(KeyError::KeyFile(KeyFileError::Exposed { mode: found, .. })) if found == mode)
        );
    }
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o400)).unwrap();
    assert!(scratch.open(&NoPassphrase).is_ok());
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let scratch = Scratch::with(&[]);
    std::os::unix::fs::chown(scratch.path(), Some(12345), None).unwrap();
    assert!(matches!(
        scratch.open(&NoPassphrase),
        Err(KeyError::KeyFile(KeyFileError::WrongOwner { owner: 12345, .. }))
    ));
}

#[test]
fn errors_are_one_sentence() {
    let path = PathBuf::from("/k");
    for error in [
        KeyError::KeyFile(KeyFileError::Exposed { path: path.clone(), mode: 0o644 }),
        KeyError::KeyFile(KeyFileError::FromTheFuture { path: path.clone(), version: 2 }),
        KeyFileError::io("read key file", &path, std::io::ErrorKind::StorageFull).into(),
        KeyError::KeyFile(KeyFileError::Damaged(path.clone())),
        KeyError::Protector(ProtectorError::BadCost),
    ] {
        let text = error.to_string();
        assert!(!text.contains('\n') && !text.contains("  ") && !text.ends_with('.'), "{text}");
    }
    let exposed = KeyError::KeyFile(KeyFileError::Exposed { path, mode: 0o644 }).to_string();
    assert_eq!(exposed, "key file /k has mode 0644 and is open to others; `chmod 600` it");
}
