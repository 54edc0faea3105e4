//! The sealed body of the key file: the ring as JSON, with its material.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::format::{KeyVersion, MasterKeyId, VaultId};
use crate::keys::policy::Policy;
use crate::keys::ring::{KeyRing, KeyState, MasterKey, Version};
use crate::keys::text::{SecretText, to_secret_json};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RingBody {
    default: MasterKeyId,
    keys: Vec<KeyBody>,
    /// Absent in key files that are older than the trail.
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
    /// Absent for the default policy, and in key files that are older than grants.
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
pub(in crate::keys) fn ring_to_json(ring: &KeyRing) -> Zeroizing<Vec<u8>> {
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

/// The reverse of [`ring_to_json`]; `None` for JSON that it never writes.
pub(in crate::keys) fn ring_from_json(vault_id: VaultId, json: &[u8]) -> Option<KeyRing> {
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
        vault_id,
        default: body.default,
        keys: body.keys.into_iter().map(key).collect(),
        trail: body.trail.map(|text| text.0),
    };
    ring.is_sound().then_some(ring)
}
