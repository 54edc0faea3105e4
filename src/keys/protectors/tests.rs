//! Who can open which state of the file.

use std::fs;

use crate::format::KeyVersion;
use crate::keys::tests::*;

fn kinds(file: &OpenKeyFile) -> Vec<(u32, &'static str)> {
    file.protectors.list().iter().map(|protector| (protector.id, protector.kind)).collect()
}

fn wrong(result: Result<OpenKeyFile, KeyError>) -> bool {
    matches!(result, Err(KeyError::Protector(ProtectorError::WrongPassphrase(_))))
}

#[test]
fn a_passphrase_opens_the_file_and_another_changes_nothing() {
    let scratch = Scratch::with(&[cheap("right")]);
    let before = fs::read(scratch.path()).unwrap();
    assert!(scratch.open(&secret_of("right")).is_ok());
    for passphrase in ["wrong", "right ", "Right", "right\n"] {
        assert!(wrong(scratch.open(&secret_of(passphrase))));
        let changed = scratch.update(&secret_of(passphrase), |ring| ring.rotate(DEFAULT_KEY));
        assert!(matches!(changed, Err(KeyError::Protector(ProtectorError::WrongPassphrase(_)))));
    }
    assert!(matches!(
        scratch.open(&NoPassphrase),
        Err(KeyError::Protector(ProtectorError::PassphraseNeeded))
    ));
    assert_eq!(fs::read(scratch.path()).unwrap(), before);
}

#[test]
fn the_passphrase_is_asked_for_only_when_one_is_needed() {
    let asked = std::cell::Cell::new(0);
    let ask = || {
        asked.set(asked.get() + 1);
        Ok(secret_of("p"))
    };
    assert!(Scratch::with(&[NewProtector::Raw]).open(&ask).is_ok());
    assert_eq!(asked.get(), 0);
    let scratch = Scratch::with(&[cheap("other"), cheap("p")]);
    let other_vault = KeyFile::open(&scratch.path(), &VaultId::random(), &ask);
    assert!(matches!(other_vault, Err(KeyError::KeyFile(KeyFileError::OtherVault { .. }))));
    assert_eq!(asked.get(), 0);
    assert!(scratch.open(&ask).is_ok());
    assert_eq!(asked.get(), 1);
}

#[test]
fn a_passphrase_takes_the_place_of_a_raw_protector_unless_told_otherwise() {
    let scratch = Scratch::with(&[]);
    let keep = |file: &mut OpenKeyFile| file.protectors.add(&cheap("a"), RawProtectors::Keep);
    let (id, file) = scratch.edit(&NoPassphrase, keep).unwrap();
    assert_eq!((id, kinds(&file)), (2, vec![(1, "raw"), (2, "passphrase")]));
    assert!(scratch.open(&NoPassphrase).is_ok());

    let replace = |file: &mut OpenKeyFile| file.protectors.add(&cheap("b"), RawProtectors::Replace);
    let (id, file) = scratch.edit(&NoPassphrase, replace).unwrap();
    assert_eq!((id, kinds(&file)), (3, vec![(2, "passphrase"), (3, "passphrase")]));
    assert!(matches!(
        scratch.open(&NoPassphrase),
        Err(KeyError::Protector(ProtectorError::PassphraseNeeded))
    ));
    assert!(scratch.open(&secret_of("a")).is_ok());
    assert!(scratch.open(&secret_of("b")).is_ok());
}

#[test]
fn every_holder_opens_what_any_holder_wrote() {
    let names = ["a", "b", "c"];
    let scratch = Scratch::with(&names.map(cheap));
    for (count, name) in (2..).zip(names) {
        let rotated = scratch.update(&secret_of(name), |ring| ring.rotate(DEFAULT_KEY)).unwrap().0;
        assert_eq!(rotated, KeyVersion(count));
        for name in names {
            let file = scratch.open(&secret_of(name)).unwrap();
            assert_eq!(file.ring.default_key().current(), rotated);
        }
    }
}

#[test]
fn the_last_protector_stays() {
    let scratch = Scratch::with(&[cheap("a"), cheap("b")]);
    let remove = |id| move |file: &mut OpenKeyFile| file.protectors.remove(id);
    let unknown = scratch.edit(&secret_of("a"), remove(3));
    assert!(matches!(unknown, Err(KeyError::Protector(ProtectorError::NoSuchProtector(3)))));
    scratch.edit(&secret_of("a"), remove(1)).unwrap();
    assert!(wrong(scratch.open(&secret_of("a"))));
    let last = scratch.edit(&secret_of("b"), remove(2));
    assert!(matches!(last, Err(KeyError::Protector(ProtectorError::LastProtector(2)))));
    assert!(scratch.open(&secret_of("b")).is_ok());
}

#[test]
fn a_failed_change_of_protectors_changes_nothing() {
    let scratch = Scratch::with(&[]);
    let costly = PassphraseCost { memory_kib: 7, passes: 1, lanes: 1 };
    let new = NewProtector::Passphrase { passphrase: secret_of("p"), cost: costly };
    let tried = |file: &mut OpenKeyFile| {
        assert!(matches!(
            file.protectors.add(&new, RawProtectors::Replace),
            Err(KeyError::Protector(ProtectorError::BadCost))
        ));
        assert!(matches!(
            file.protectors.change(1, &new),
            Err(KeyError::Protector(ProtectorError::BadCost))
        ));
        Ok(())
    };
    scratch.edit(&NoPassphrase, tried).unwrap();
    assert!(scratch.open(&NoPassphrase).is_ok());
    assert!(scratch.beside(".prev").exists(), "nobody was shut out");
    let full = |file: &mut OpenKeyFile| {
        (1..16)
            .try_for_each(|_| file.protectors.add(&cheap("p"), RawProtectors::Keep).map(drop))?;
        file.protectors.add(&cheap("p"), RawProtectors::Keep)
    };
    assert!(matches!(scratch.edit(&NoPassphrase, full), Err(KeyError::Full { .. })));
}

/// What someone could try who has an old key file, the passphrase of that time and the new file:
/// every secret that the old file gives, on every protector of the new one.
fn old_secrets_open(old: &Scratch, old_passphrase: &dyn Unlock, new: &Scratch) -> bool {
    use crate::keys::key_file::Envelope;
    let old = old.open(old_passphrase).unwrap();
    let held = new.open(&old.held());
    let bytes = fs::read(new.path()).unwrap();
    let with_old_key = Envelope::parse(&bytes).unwrap().open(old.protectors.file_key());
    held.is_ok() || with_old_key.is_some() || new.open(old_passphrase).is_ok()
}

/// A copy of the scratch directory as it is now.
fn copy(scratch: &Scratch) -> Scratch {
    let copy = Scratch { directory: tempfile::tempdir().unwrap(), ring: scratch.ring.clone() };
    fs::copy(scratch.path(), copy.path()).unwrap();
    copy
}

#[test]
fn an_old_passphrase_with_the_old_file_does_not_open_the_new_one() {
    let scratch = Scratch::with(&[cheap("old"), cheap("colleague")]);
    let old = copy(&scratch);
    let change = |file: &mut OpenKeyFile| file.protectors.change(1, &cheap("new"));
    let (id, _) = scratch.edit(&secret_of("old"), change).unwrap();
    assert_eq!(id, 3);
    assert!(!old_secrets_open(&old, &secret_of("old"), &scratch));
    assert!(!scratch.beside(".prev").exists());
    assert!(scratch.open(&secret_of("new")).is_ok());
    assert!(scratch.open(&secret_of("colleague")).is_ok(), "who was not asked still opens it");
}

#[test]
fn a_raw_file_of_before_does_not_open_what_a_passphrase_protects_now() {
    let scratch = Scratch::with(&[]);
    let old = copy(&scratch);
    let add = |file: &mut OpenKeyFile| file.protectors.add(&cheap("p"), RawProtectors::Replace);
    scratch.edit(&NoPassphrase, add).unwrap();
    assert!(!old_secrets_open(&old, &NoPassphrase, &scratch));
    assert!(!scratch.beside(".prev").exists());
}

#[test]
fn what_is_held_opens_later_states_until_its_protector_goes() {
    let scratch = Scratch::with(&[cheap("daemon"), cheap("other")]);
    let held = scratch.open(&secret_of("daemon")).unwrap().held();
    scratch.update(&secret_of("other"), |ring| ring.rotate(DEFAULT_KEY)).unwrap();
    let (_, file) = scratch.update(&held, |ring| ring.rotate(DEFAULT_KEY)).unwrap();
    assert_eq!(file.ring.default_key().current(), KeyVersion(3));
    let remove = |file: &mut OpenKeyFile| file.protectors.remove(1);
    let (_, file) = scratch.edit(&held, remove).unwrap();
    assert!(matches!(
        scratch.open(&held),
        Err(KeyError::Protector(ProtectorError::ProtectorGone(_)))
    ));
    assert!(matches!(
        scratch.open(&file.held()),
        Err(KeyError::Protector(ProtectorError::ProtectorGone(_)))
    ));
    assert!(scratch.open(&secret_of("other")).is_ok());
}

#[test]
fn changing_the_passphrase_it_was_opened_with_leaves_the_new_one_held() {
    let scratch = Scratch::with(&[cheap("old")]);
    let change = |file: &mut OpenKeyFile| file.protectors.change(1, &cheap("new"));
    let (_, file) = scratch.edit(&secret_of("old"), change).unwrap();
    assert!(scratch.update(&file.held(), |ring| ring.rotate(DEFAULT_KEY)).is_ok());
}

#[test]
fn a_passphrase_is_a_line_of_bytes() {
    let read = |bytes: &[u8]| Passphrase::from_line(bytes.to_vec());
    let scratch = Scratch::with(&[cheap("line")]);
    assert!(scratch.open(&read(b"line").unwrap()).is_ok());
    assert!(scratch.open(&read(b"line\n").unwrap()).is_ok());
    assert!(wrong(scratch.open(&read(b"line\r\n").unwrap())));
    for empty in [b"".as_slice(), b"\n"] {
        assert!(matches!(read(empty), Err(KeyError::Protector(ProtectorError::EmptyPassphrase))));
    }
    for lines in [b"\n\n".as_slice(), b"line\n\n", b"line\nline"] {
        assert!(matches!(read(lines), Err(KeyError::Protector(ProtectorError::PassphraseLines))));
    }
    assert!(read(&[b'x'; 65536]).is_ok());
    assert!(matches!(
        read(&[b'x'; 65537]),
        Err(KeyError::Protector(ProtectorError::LongPassphrase))
    ));
    assert_eq!(format!("{:?}", secret_of("p")), "[secret]");
}

/// Whoever writes the key file does not decide what its reader spends.
#[test]
fn the_reader_bounds_what_the_passphrase_costs() {
    struct Limited(u32);
    impl Unlock for Limited {
        fn passphrase(&self) -> Result<Passphrase, KeyError> {
            Ok(secret_of("p"))
        }
        fn cost_limit(&self) -> CostLimit {
            CostLimit { memory_mib: self.0 }
        }
    }
    let protector = |memory_kib, passes| NewProtector::Passphrase {
        passphrase: secret_of("p"),
        cost: PassphraseCost { memory_kib, passes, lanes: 1 },
    };
    let cases = [
        (vec![protector(8 * 1024, 1)], 8),
        (vec![protector(1024, 97)], 3),
        (vec![protector(1024, 40), protector(1024, 40), protector(1024, 17)], 3),
    ];
    for (protectors, enough) in cases {
        let scratch = Scratch::with(&protectors);
        assert!(scratch.open(&Limited(enough)).is_ok());
        let refused = scratch.open(&Limited(enough - 1));
        let Err(KeyError::Protector(ProtectorError::TooCostly { limit, needed })) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!((limit, needed), (enough - 1, u64::from(enough)));
    }
    // The most that a file can ask for is refused before anything is spent.
    let most = PassphraseCost { memory_kib: 4 * 1024 * 1024, passes: 1000, lanes: 1 };
    let checked = CostLimit::default().check([most; 16].into_iter());
    assert!(matches!(checked, Err(ProtectorError::TooCostly { limit: 1024, .. })));
    CostLimit::default().check([PassphraseCost::default(); 16].into_iter()).unwrap();
}
