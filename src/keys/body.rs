//! The ring as the key file's sealed body holds it: JSON, material included.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::lifecycle::{MAX_KEYS, MAX_VERSIONS, is_key_name};
use super::policy::Policy;
use super::ring::{KeyRing, MasterKey, Version};
use super::state::KeyState;
use super::text::{SecretText, to_secret_json};
use crate::format::{KeyVersion, MasterKeyId, VolumeId};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RingBody {
    default: MasterKeyId,
    keys: Vec<KeyBody>,
    /// Not there in key files of before there was a trail.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trail: Option<SecretText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    id: MasterKeyId,
    name: String,
    kind: Kind,
    state: KeyState,
    current: KeyVersion,
    rotate_every_days: u32,
    versions: Vec<VersionBody>,
    /// Not there for a key with the default alone, nor in key files of before there were grants.
    #[serde(skip_serializing_if = "Policy::is_default", default)]
    policy: Policy,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Local,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionBody {
    version: KeyVersion,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retired: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    material: Option<SecretText>,
}

/// The ring's JSON.
pub(super) fn ring_to_json(ring: &KeyRing) -> Zeroizing<Vec<u8>> {
    let version = |version: &Version| VersionBody {
        version: version.number,
        created: version.created,
        retired: version.retired,
        material: version.material.clone().map(SecretText),
    };
    let key = |key: &MasterKey| KeyBody {
        id: key.id,
        name: key.name.clone(),
        kind: Kind::Local,
        state: key.state,
        current: key.current,
        rotate_every_days: key.rotate_every_days,
        versions: key.versions.iter().map(version).collect(),
        policy: key.policy.clone(),
    };
    to_secret_json(&RingBody {
        default: ring.default,
        keys: ring.keys.iter().map(key).collect(),
        trail: ring.trail.clone().map(SecretText),
    })
}

/// The reverse of [`ring_to_json`]; `None` for what it never writes.
pub(super) fn ring_from_json(volume: VolumeId, json: &[u8]) -> Option<KeyRing> {
    let body: RingBody = serde_json::from_slice(json).ok()?;
    let version = |version: VersionBody| Version {
        number: version.version,
        created: version.created,
        retired: version.retired,
        material: version.material.map(|text| text.0),
    };
    let key = |key: KeyBody| MasterKey {
        id: key.id,
        name: key.name,
        state: key.state,
        current: key.current,
        rotate_every_days: key.rotate_every_days,
        versions: key.versions.into_iter().map(version).collect(),
        policy: key.policy,
    };
    let ring = KeyRing {
        volume,
        default: body.default,
        keys: body.keys.into_iter().map(key).collect(),
        trail: body.trail.map(|text| text.0),
    };
    is_sound(&ring).then_some(ring)
}

/// What the ring's code relies on: names and ids are unique, versions ascend to the current one,
/// and a key that can be used has the material to wrap with.
pub(super) fn is_sound(ring: &KeyRing) -> bool {
    let keys = &ring.keys;
    let unique = || {
        let differ = |a: &MasterKey, b: &MasterKey| a.id != b.id && a.name != b.name;
        keys.iter().enumerate().all(|(i, key)| keys[..i].iter().all(|other| differ(other, key)))
    };
    // Their number comes first: each is compared with each.
    keys.len() <= MAX_KEYS
        && unique()
        && keys.iter().any(|key| key.id == ring.default)
        && keys.iter().all(key_is_sound)
}

fn key_is_sound(key: &MasterKey) -> bool {
    let ascending = key.versions.windows(2).all(|pair| pair[0].number < pair[1].number);
    let Some(last) = key.versions.last() else { return false };
    let destroyed = key.state == KeyState::Destroyed;
    is_key_name(&key.name)
        && key.policy.is_sound()
        && ascending
        && key.versions.len() <= MAX_VERSIONS
        && key.current.0 > 0
        && last.number == key.current
        && last.material.is_some() != destroyed
        && key
            .versions
            .iter()
            .all(|version| version.material.is_some() != version.retired.is_some())
        && (!destroyed || key.versions.iter().all(|version| version.material.is_none()))
}
