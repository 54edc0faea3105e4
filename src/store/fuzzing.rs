//! What a fuzzer does with bytes of this layer. It can't make a MAC: what parses is given one.

use super::description::Description;
use super::{RootAttrs, records, state};
use crate::crypto::{Secret, VaultKeys};

fn key() -> Secret {
    Secret::from_bytes(&[7; 32])
}

fn keys() -> VaultKeys {
    VaultKeys::derive(&key(), &[7; 16])
}

/// `vault.json`
pub fn description(bytes: &[u8]) -> bool {
    let Ok((description, mac)) = Description::parse(bytes) else { return false };
    assert!(description.authenticate(&mac, &key()).is_err(), "a MAC was forged");
    let written = description.authenticated(&key()).expect("a description is JSON");
    let (again, mac) = Description::parse(&written).expect("what was written parses");
    again.authenticate(&mac, &key()).expect("what was written is authentic");
    assert_eq!(again.authenticated(&key()).expect("a description is JSON"), written);
    true
}

/// `state.json`
pub fn state(bytes: &[u8]) -> bool {
    let key = keys().state;
    assert!(state::parse(bytes, &key).is_err(), "a MAC was forged");
    let Some((record, marks)) = state::parse_unauthenticated(bytes) else { return false };
    let written = state::to_bytes(&key, &record, &marks).expect("a record is JSON");
    let again = state::parse(&written, &key).expect("what was written is authentic");
    assert_eq!(again, (record, marks));
    true
}

/// `root.json`
pub fn root_attrs(bytes: &[u8]) -> bool {
    let key = keys().root;
    assert!(RootAttrs::parse(bytes, &key).is_none(), "a MAC was forged");
    let Ok(attrs) = serde_json::from_slice::<RootAttrs>(bytes) else { return false };
    let written = attrs.to_bytes(&key).expect("attributes are JSON");
    assert_eq!(RootAttrs::parse(&written, &key), Some(attrs));
    true
}

/// What a machine keeps of a vault.
pub fn record(bytes: &[u8]) -> bool {
    records::fuzz_records(bytes, &keys().freshness)
}
