//! Master keys: their versions and states, and the key file that keeps them.
//!
//! | module | holds |
//! |---|---|
//! | [`policy`] | grants, and the decision that they come to |
//! | `ring` | [`KeyRing`]: every master key of one vault in memory; wraps and unwraps data keys |
//! | `protectors` | the passphrases that open a key file |
//! | `key_file` | [`KeyFile`]: the ring on disk, sealed as a whole, replaced atomically, locked while it changes |
//! | `recovery` | the ring as text, words or bytes to be printed |
//!
//! This layer neither reads a terminal (a passphrase comes in through [`Unlock`]) nor logs: every
//! failure is returned as a [`KeyError`].

mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod key_file;
pub mod policy;
mod protectors;
mod recovery;
mod ring;
mod text;

pub use error::{KeyError, KeyFileError, PolicyError, ProtectorError, RecoveryError, RingError};
pub use jiff::Timestamp;
pub use key_file::{KeyFile, KeyFileMark, OpenKeyFile};
pub use protectors::{
    CostLimit, HeldProtector, NewProtector, NoPassphrase, Passphrase, PassphraseCost,
    ProtectorDescription, Protectors, RawProtectors, Unlock,
};
pub use ring::{
    DEFAULT_KEY, DEFAULT_ROTATION_DAYS, Fingerprints, KeyDescription, KeyRing, KeyState, MasterKey,
    VersionDescription, VersionState,
};

#[cfg(test)]
mod tests;
