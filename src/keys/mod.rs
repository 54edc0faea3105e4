//! Master keys: their versions and states, and the key file that keeps them.
//!
//! A [`KeyRing`] is every master key of one vault in memory: it wraps and unwraps data keys and
//! knows which version does. A [`KeyFile`] is the ring on disk, sealed as a whole under a key
//! that its protectors give, replaced atomically and locked while it changes.
//!
//! This layer reads no terminal, a passphrase comes in through [`Unlock`], and logs nothing: what
//! went wrong leaves as a [`KeyError`].

mod armor;
mod body;
mod describe;
mod envelope;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod lifecycle;
mod locate;
mod mark;
mod passphrase;
pub mod policy;
mod protector;
mod protectors;
mod read;
mod recipient;
mod recovery;
mod replace;
mod ring;
mod slot;
mod state;
mod text;
mod unlock;
mod words;

pub use describe::{KeyDescription, VersionDescription};
pub use error::KeyError;
pub use file::{KeyFile, OpenKeyFile};
pub use mark::KeyFileMark;
pub use passphrase::{CostLimit, Passphrase, PassphraseCost};
pub use protector::{NewProtector, ProtectorDescription};
pub use protectors::Protectors;
pub use ring::{DEFAULT_KEY, DEFAULT_ROTATION_DAYS, Fingerprints, KeyRing, MasterKey};
pub use state::{KeyState, VersionState};

pub use jiff::Timestamp;
pub use unlock::{Held, NoPassphrase, Unlock};

#[cfg(test)]
mod tests;
