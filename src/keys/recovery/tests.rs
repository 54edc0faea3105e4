//! The recovery form: from paper back to a ring.

use crate::crypto::Secret;
use crate::format::{KeyVersion, MasterKeyId};
use crate::keys::tests::*;

/// A ring with a key in every state and a version in every state.
fn eventful() -> KeyRing {
    let mut ring = KeyRing::create(VaultId::random());
    for name in ["disabled", "pending", "destroyed", &"x".repeat(64)] {
        ring.create_key(name).unwrap();
        ring.rotate(name).unwrap();
    }
    ring.disable("disabled").unwrap();
    ring.retire("disabled", KeyVersion(1)).unwrap();
    ring.schedule_deletion("destroyed", 7).unwrap();
    let later = Timestamp::from_second(4_000_000_000).unwrap();
    ring.destroy("destroyed", later).unwrap();
    ring.schedule_deletion("pending", 30).unwrap();
    ring.set_rotation(DEFAULT_KEY, 0).unwrap();
    ring
}

#[test]
fn a_ring_comes_back_from_its_recovery_text_alone() {
    for ring in [KeyRing::create(VaultId::random()), eventful()] {
        let key = Secret::random();
        let (id, version, wrap) = ring.wrap(DEFAULT_KEY, &[1; 16], &key).unwrap();
        let text = ring.export_recovery();
        let back = KeyRing::import_recovery(&text).unwrap();
        assert_eq!(back.vault_id(), ring.vault_id());
        assert_eq!(back.describe(), ring.describe());
        assert_eq!(back.unwrap(&id, version, &[1; 16], &wrap).unwrap().expose(), key.expose());
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 64));

        let typed = text.to_lowercase().replace("begin atrest recovery", "BEGIN ATREST RECOVERY");
        let typed = typed.replace("end atrest recovery", "END ATREST RECOVERY");
        let typed = typed.replace("  ", " - ").replace('\n', "\r\n");
        let mailed = format!("Dear colleague,\n1 for you\n{typed}\n2 thanks");
        assert_eq!(KeyRing::import_recovery(&mailed).unwrap().describe(), ring.describe());
    }
}

#[test]
fn letters_that_look_like_digits_are_read_as_those() {
    let text = KeyRing::create(VaultId::random()).export_recovery();
    let retyped: Vec<String> = text
        .lines()
        .map(|line| match line.split_once("  ") {
            Some((number, symbols)) => {
                format!("{number}  {}", symbols.replace('0', "O").replace('1', "l"))
            }
            None => line.to_owned(),
        })
        .collect();
    assert!(KeyRing::import_recovery(&retyped.join("\n")).is_ok());
}

#[test]
fn a_slip_is_found_in_its_line() {
    let text = eventful().export_recovery();
    let lines: Vec<&str> = text.lines().collect();
    let numbered = || (0..lines.len()).filter(|&at| lines[at].starts_with(char::is_numeric));
    let import = |lines: &[String]| KeyRing::import_recovery(&lines.join("\n"));
    let owned = || lines.iter().map(|line| line.to_string()).collect::<Vec<_>>();
    for (number, at) in (1..).zip(numbered()) {
        let mut slipped = owned();
        let symbol = &slipped[at][8..9];
        let other = if symbol == "7" { "8" } else { "7" };
        slipped[at].replace_range(8..9, other);
        // One slip in 1024 has the checksum of what it should be; then the whole does not fit.
        let refused = import(&slipped);
        assert!(
            matches!(refused, Err(KeyError::Recovery(RecoveryError::Line(found))) if found == number)
                || matches!(refused, Err(KeyError::Recovery(RecoveryError::Damaged)))
        );
        let mut missing = owned();
        missing.remove(at);
        let refused = import(&missing);
        assert!(matches!(
            refused,
            Err(KeyError::Recovery(RecoveryError::Line(_))
                | KeyError::Recovery(RecoveryError::Damaged))
        ));
        let mut swapped = owned();
        swapped.swap(at, at - 1);
        assert!(number == 1 || import(&swapped).is_err());
    }
    for bad in ["", "1 2 3", &text[40..], &format!("{}\n", lines[0])] {
        assert!(matches!(
            KeyRing::import_recovery(bad),
            Err(KeyError::Recovery(RecoveryError::Damaged))
        ));
    }
}

#[test]
fn recovery_bytes_are_small_and_every_one_matters() {
    let ring = KeyRing::create(VaultId::random());
    let bytes = ring.recovery_bytes();
    assert!(bytes.len() < 162, "{} bytes", bytes.len());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert!(KeyRing::from_recovery_bytes(&changed).is_err());
        assert!(KeyRing::from_recovery_bytes(&bytes[..at]).is_err());
    }
    let room = eventful().recovery_bytes();
    assert!(room.len() <= room.capacity());
}

#[test]
fn a_later_form_says_so() {
    use sha2::{Digest, Sha256};
    let mut bytes = KeyRing::create(VaultId::random()).recovery_bytes().to_vec();
    bytes.truncate(bytes.len() - 8);
    bytes[0] = 3;
    let check = Sha256::digest(&bytes);
    bytes.extend_from_slice(&check[..8]);
    let refused = KeyRing::from_recovery_bytes(&bytes);
    assert!(matches!(refused, Err(KeyError::Recovery(RecoveryError::FromTheFuture(3)))));
}

#[test]
fn a_form_of_more_keys_than_there_can_be_is_refused_at_once() {
    let mut ring = KeyRing::create(VaultId::random());
    let mut key = ring.keys[0].clone();
    key.versions[0].material = None;
    key.versions[0].retired = Some(key.versions[0].created);
    ring.keys = (0..60_000u32)
        .map(|number| MasterKey {
            id: MasterKeyId::random(),
            name: format!("key-{number}"),
            ..key.clone()
        })
        .collect();
    ring.default = ring.keys[0].id;
    let bytes = ring.recovery_bytes();
    let began = std::time::Instant::now();
    assert!(matches!(
        KeyRing::from_recovery_bytes(&bytes),
        Err(KeyError::Recovery(RecoveryError::Damaged))
    ));
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
}
