//! Fingerprints of the versions of a ring, which recognize a later ring without the material.

use std::collections::{BTreeMap, BTreeSet};

use super::key_ring::KeyRing;
use super::master_key::MasterKey;
use crate::crypto::fingerprint;
use crate::format::{KeyVersion, MasterKeyId};

/// The master keys of a ring, and a fingerprint of each version that has material.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprints {
    keys: BTreeSet<MasterKeyId>,
    versions: BTreeMap<(MasterKeyId, KeyVersion), [u8; 32]>,
}

impl Fingerprints {
    /// Whether `later` may be a later state of this ring, changed by another process: it has all keys,
    /// each version that both have is the same, and each key with material in both has such a version.
    /// The current version of a key is never retired, so only a forged ring has none.
    pub fn may_precede(&self, later: &Self) -> bool {
        let has_material =
            |prints: &Self, key: &MasterKeyId| prints.versions.keys().any(|(of, _)| of == key);
        let mut proven = BTreeSet::new();
        for (version, print) in &self.versions {
            match later.versions.get(version) {
                Some(found) if found == print => drop(proven.insert(version.0)),
                Some(_) => return false,
                None => {}
            }
        }
        let is_proven = |key: &MasterKeyId| proven.contains(key) || !has_material(later, key);
        self.keys.is_subset(&later.keys)
            && (!proven.is_empty() || self.versions.is_empty())
            && self.versions.keys().all(|(key, _)| is_proven(key))
    }
}

impl KeyRing {
    /// The fingerprints of all versions that have material.
    pub fn fingerprints(&self) -> Fingerprints {
        let of_key = |key: &MasterKey| {
            let present = key.versions.iter().filter_map(|version| {
                Some(((key.id, version.number), fingerprint(version.material.as_ref()?)))
            });
            present.collect::<Vec<_>>()
        };
        let keys = self.keys.iter().map(|key| key.id).collect();
        Fingerprints { keys, versions: self.keys.iter().flat_map(of_key).collect() }
    }
}
