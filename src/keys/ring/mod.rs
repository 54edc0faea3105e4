//! The master keys of one vault in memory: wrapping, rotation and the rest of a key's life.

mod describe;
mod fingerprints;
mod key_ring;
mod lifecycle;
mod master_key;
mod state;
mod validity;

pub use describe::{KeyDescription, VersionDescription};
pub use fingerprints::Fingerprints;
pub use key_ring::{DEFAULT_KEY, KeyRing};
pub use master_key::{DEFAULT_ROTATION_DAYS, MasterKey};
pub use state::{KeyState, VersionState};

pub(super) use master_key::Version;
pub(super) use state::now;

#[cfg(test)]
mod tests;
