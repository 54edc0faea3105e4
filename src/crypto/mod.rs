//! AEAD, key wrap, key derivation and the types that hold secrets.
//!
//! Nothing here does I/O; randomness comes in through [`random`] alone.

mod block_cipher;
mod derive;
pub mod random;
mod scrub;
mod secret;
mod wrap;

#[cfg(feature = "aws-lc")]
pub use block_cipher::AwsLcCipher;
pub use block_cipher::{BlockCipher, PortableCipher};
pub use derive::{FileKeys, MacKey, TrailKeys, VaultKeys, digest, fingerprint};
pub use scrub::{scrubbed, scrubbed_deep};
pub use secret::{DataKey, Secret, VersionKey};
pub use wrap::{WrappedKey, open_sealed, seal, unwrap, wrap};

/// Length of an AES-GCM nonce in bytes (NIST SP 800-38D, 96 bits).
pub const NONCE_LEN: usize = 12;
/// Length of an AES-GCM tag in bytes (NIST SP 800-38D, 128 bits).
pub const TAG_LEN: usize = 16;

/// A ciphertext, its associated data or its key is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Forged;
