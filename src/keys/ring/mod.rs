//! The master keys of one vault in memory: wrapping, rotation and the rest of a key's life.

mod describe;
mod key_ring;
mod lifecycle;
mod state;
mod validity;

pub use describe::{KeyDescription, VersionDescription};
pub use key_ring::{DEFAULT_KEY, DEFAULT_ROTATION_DAYS, Fingerprints, KeyRing, MasterKey};
pub use state::{KeyState, VersionState};

pub(super) use key_ring::Version;
pub(super) use state::now;

#[cfg(test)]
mod tests;
