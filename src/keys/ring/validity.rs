//! The invariants of a ring, which hold for every ring that is read from a key file or a recovery
//! form.

use super::key_ring::KeyRing;
use super::master_key::MasterKey;
use super::state::KeyState;

/// How many master keys a key file takes.
pub(super) const MAX_KEYS: usize = 1000;
/// How many versions a master key can have had.
pub(super) const MAX_VERSIONS: usize = 10_000;

impl KeyRing {
    /// Whether names and ids are unique, the versions of each key ascend to the current one, and each
    /// key that is not destroyed has the material to wrap with.
    pub(in crate::keys) fn is_sound(&self) -> bool {
        let keys = &self.keys;
        let unique = || {
            let differ = |a: &MasterKey, b: &MasterKey| a.id != b.id && a.name != b.name;
            keys.iter().enumerate().all(|(i, key)| keys[..i].iter().all(|other| differ(other, key)))
        };
        // Their number comes first: each is compared with each.
        keys.len() <= MAX_KEYS
            && unique()
            && keys.iter().any(|key| key.id == self.default)
            && keys.iter().all(MasterKey::is_sound)
    }
}

impl MasterKey {
    fn is_sound(&self) -> bool {
        let ascending = self.versions.windows(2).all(|pair| pair[0].number < pair[1].number);
        let Some(last) = self.versions.last() else { return false };
        let destroyed = self.state == KeyState::Destroyed;
        is_key_name(&self.name)
            && self.policy.is_sound()
            && ascending
            && self.versions.len() <= MAX_VERSIONS
            && self.current.0 > 0
            && last.number == self.current
            && last.material.is_some() != destroyed
            && self
                .versions
                .iter()
                .all(|version| version.material.is_some() != version.retired.is_some())
            && (!destroyed || self.versions.iter().all(|version| version.material.is_none()))
    }
}

/// Whether `name` can name a master key, on a command line and in a path as well.
pub(super) fn is_key_name(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= 64
        && name.bytes().all(inner)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}
