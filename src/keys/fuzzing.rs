//! Fuzz targets of this layer.

use super::key_file::{Envelope, ring_from_json, ring_to_json};
use super::policy::{Action, ActionSet, Effect, Grant, Policy, Principal};
use super::recovery::check;
use super::{KeyRing, Timestamp};
use crate::format::VaultId;

const VAULT: [u8; 16] = [7; 16];

/// The key file: what parses is written as the same but for white space. One that has a raw key may
/// open with it.
pub fn key_file(bytes: &[u8]) -> bool {
    let Ok(mut envelope) = Envelope::parse(bytes) else { return false };
    let written = envelope.to_bytes();
    let again = Envelope::parse(&written).unwrap_or_else(|_| panic!("what was written parses"));
    assert!(again.to_bytes() == written);
    if let Some(key) = envelope.protectors.iter().find_map(|slot| slot.raw_key())
        && let Some(ring) = envelope.open(&key)
    {
        same_again(&ring);
    }
    true
}

/// The JSON that is sealed in the key file.
pub fn key_body(bytes: &[u8]) -> bool {
    let ring = ring_from_json(VaultId::from_bytes(VAULT), bytes);
    ring.as_ref().map(same_again).is_some()
}

fn same_again(ring: &KeyRing) {
    let written = ring_to_json(ring);
    let again = ring_from_json(ring.vault_id(), &written).expect("what was written is sound");
    assert!(ring_to_json(&again) == written);
}

/// The recovery form without its checksum, which a fuzzer does not find.
pub fn recovery(bytes: &[u8]) -> bool {
    let whole = [bytes, &check(bytes)].concat();
    let Ok(ring) = KeyRing::from_recovery_bytes(&whole) else { return false };
    let written = ring.recovery_bytes();
    let same = |again: Result<KeyRing, _>| {
        let again: KeyRing = again.unwrap_or_else(|error: super::KeyError| panic!("{error}"));
        assert!(again.recovery_bytes() == written);
    };
    same(KeyRing::from_recovery_bytes(&written));
    same(KeyRing::import_recovery(&ring.export_recovery()));
    same(KeyRing::from_recovery_words(&ring.recovery_words()));
    same_again(&ring);
    true
}

/// The recovery form as a person types it: lines or words.
pub fn recovery_text(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let typed = KeyRing::import_recovery(text).or_else(|_| KeyRing::from_recovery_words(text));
    let Ok(ring) = typed else { return false };
    let again = KeyRing::import_recovery(&ring.export_recovery());
    assert!(again.is_ok_and(|again| again.recovery_bytes() == ring.recovery_bytes()));
    true
}

/// A grant's time and path, a line each, or a policy in JSON.
pub fn policy(bytes: &[u8]) -> bool {
    if let Ok(policy) = serde_json::from_slice::<Policy>(bytes)
        && policy.is_sound()
    {
        same_policy(policy);
        return true;
    }
    let Some((time, path)) = str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n'))
    else {
        return false;
    };
    let until: Option<Timestamp> = time.parse().ok();
    if let Some(until) = until {
        assert_eq!(until.to_string().parse().ok(), Some(until));
    }
    let grant = Grant {
        principal: Principal::Everyone,
        effect: Effect::Deny,
        actions: ActionSet::of(&Action::ALL),
        until,
        under: Some(path.to_owned()),
    };
    let mut policy = Policy::default();
    if policy.grant(grant, Timestamp::MIN).is_ok() {
        assert!(policy.grants()[0].covers(&[path.as_ref(), "other".as_ref()]));
        same_policy(policy);
    }
    until.is_some()
}

fn same_policy(policy: Policy) {
    assert!(policy.is_sound());
    let written = serde_json::to_vec(&policy).expect("a policy is JSON");
    assert_eq!(serde_json::from_slice::<Policy>(&written).ok(), Some(policy));
}
