//! Wrapping under versions, and what each state allows.

use crate::crypto::{Secret, WrappedKey};
use crate::format::{KeyVersion, MasterKeyId};
use crate::keys::tests::*;

const SUBJECT: [u8; 16] = [7; 16];

type Wrap = (MasterKeyId, KeyVersion, WrappedKey);

fn wrapped(ring: &KeyRing) -> (Secret, Wrap) {
    let key = Secret::random();
    let wrap = ring.wrap(DEFAULT_KEY, &SUBJECT, &key).unwrap();
    (key, wrap)
}

fn opened(ring: &KeyRing, (id, version, wrapped): &Wrap) -> Result<Secret, KeyError> {
    ring.unwrap(id, *version, &SUBJECT, wrapped)
}

#[test]
fn a_wrap_opens_under_its_version_however_often_the_key_rotates() {
    let mut ring = KeyRing::create(VaultId::random());
    let wraps: Vec<_> = (1..=5)
        .map(|version| {
            let (key, wrap) = wrapped(&ring);
            assert_eq!(wrap.1, KeyVersion(version));
            assert_eq!(ring.rotate(DEFAULT_KEY).unwrap(), KeyVersion(version + 1));
            (key, wrap)
        })
        .collect();
    for (key, wrap) in &wraps {
        assert_eq!(opened(&ring, wrap).unwrap().expose(), key.expose());
    }
}

#[test]
fn a_wrap_is_bound_to_vault_subject_key_and_version() {
    let mut ring = KeyRing::create(VaultId::random());
    ring.rotate(DEFAULT_KEY).unwrap();
    let other_id = ring.create_key("other").unwrap();
    let (_, (id, version, wrap)) = wrapped(&ring);
    let unwrap = |id, version, subject| ring.unwrap(id, version, subject, &wrap);
    assert!(unwrap(&id, version, &SUBJECT).is_ok());
    assert!(matches!(
        unwrap(&id, version, &[8; 16]),
        Err(KeyError::Ring(RingError::Forged { .. }))
    ));
    assert!(matches!(
        unwrap(&id, KeyVersion(1), &SUBJECT),
        Err(KeyError::Ring(RingError::Forged { .. }))
    ));
    assert!(matches!(
        unwrap(&other_id, KeyVersion(1), &SUBJECT),
        Err(KeyError::Ring(RingError::Forged { .. }))
    ));
    assert!(matches!(
        unwrap(&id, KeyVersion(3), &SUBJECT),
        Err(KeyError::Ring(RingError::NoSuchVersion { .. }))
    ));
    assert!(matches!(
        unwrap(&id, KeyVersion(0), &SUBJECT),
        Err(KeyError::Ring(RingError::NoSuchVersion { .. }))
    ));
    let unknown = MasterKeyId::random();
    assert!(matches!(
        unwrap(&unknown, version, &SUBJECT),
        Err(KeyError::Ring(RingError::NoSuchKeyId(_)))
    ));
    let mut elsewhere = ring.clone();
    elsewhere.vault_id = VaultId::random();
    let unwrapped = elsewhere.unwrap(&id, version, &SUBJECT, &wrap);
    assert!(matches!(unwrapped, Err(KeyError::Ring(RingError::Forged { .. }))));
}

#[test]
fn a_key_is_found_by_its_name_and_by_its_id() {
    let mut ring = KeyRing::create(VaultId::random());
    let id = ring.create_key("photos").unwrap();
    assert_eq!(ring.key("photos").unwrap().id(), id);
    assert_eq!(ring.key(&id.to_string()).unwrap().name(), "photos");
    assert_eq!(ring.default_key().name(), DEFAULT_KEY);
    assert!(matches!(ring.key("videos"), Err(KeyError::Ring(RingError::NoSuchKey(_)))));
    assert!(matches!(ring.create_key("photos"), Err(KeyError::Ring(RingError::NameTaken(_)))));
    assert!(matches!(
        ring.create_key(&id.to_string()),
        Err(KeyError::Ring(RingError::NameTaken(_)))
    ));
    for bad in ["", ".", "-x", "a b", "a/b", "ä", &"x".repeat(65)] {
        assert!(
            matches!(ring.create_key(bad), Err(KeyError::Ring(RingError::BadName(_)))),
            "{bad}"
        );
    }
    ring.make_default("photos").unwrap();
    assert_eq!(ring.default_key().id(), id);
}

#[test]
fn only_who_knows_a_version_makes_a_ring_that_follows() {
    let mut ring = KeyRing::create(VaultId::random());
    let before = ring.fingerprints();
    // As a forger makes it, who knows the ids of keys by the headers of files.
    let mut forged = KeyRing::create(ring.vault_id());
    forged.default = ring.default;
    forged.keys[0].id = ring.keys[0].id;
    forged.rotate(DEFAULT_KEY).unwrap();
    forged.retire(DEFAULT_KEY, KeyVersion(1)).unwrap();
    assert!(!before.may_precede(&forged.fingerprints()));
    let second = forged.create_key("second").unwrap();
    forged.keys[0].state = KeyState::Destroyed;
    forged.keys[0].versions.iter_mut().for_each(|version| version.material = None);
    forged.default = second;
    assert!(!before.may_precede(&forged.fingerprints()));
    ring.rotate(DEFAULT_KEY).unwrap();
    ring.create_key("second").unwrap();
    assert!(before.may_precede(&ring.fingerprints()));
    let before = ring.fingerprints();
    ring.retire(DEFAULT_KEY, KeyVersion(1)).unwrap();
    ring.schedule_deletion("second", 7).unwrap();
    let later = Timestamp::from_second(4_000_000_000).unwrap();
    ring.destroy("second", later).unwrap();
    assert!(before.may_precede(&ring.fingerprints()));
}
