//! Which master key wraps a data key: of new content, and after a rewrap.

use crate::format::MasterKeyId;
use crate::keys::KeyRing;

/// The master key that wraps a new data key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyChoice {
    /// The key ring's default one, as it is when the data key is made.
    #[default]
    Default,
    /// This one.
    Named(MasterKeyId),
}

impl KeyChoice {
    /// The id of the chosen key.
    pub fn id(self, ring: &KeyRing) -> MasterKeyId {
        match self {
            Self::Default => ring.default_key().id(),
            Self::Named(key) => key,
        }
    }
}

/// The key that a directory was given, if it was given one.
impl From<Option<MasterKeyId>> for KeyChoice {
    fn from(key: Option<MasterKeyId>) -> Self {
        key.map_or(Self::Default, Self::Named)
    }
}

/// The master key that is to wrap a data key after a rewrap, by its newest version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RewrapTarget {
    /// The one that wraps it now.
    #[default]
    SameKey,
    /// This one.
    Named(MasterKeyId),
}

impl RewrapTarget {
    /// The id of the target for a data key that `current` wraps.
    pub fn id(self, current: MasterKeyId) -> MasterKeyId {
        match self {
            Self::SameKey => current,
            Self::Named(key) => key,
        }
    }
}

/// The key that a command names, if it names one.
impl From<Option<MasterKeyId>> for RewrapTarget {
    fn from(key: Option<MasterKeyId>) -> Self {
        key.map_or(Self::SameKey, Self::Named)
    }
}
