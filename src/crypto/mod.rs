//! AEAD, key wrap, key derivation and the types that hold secrets.
//!
//! Nothing here does I/O; randomness comes in through [`random`] alone.

mod aead;
mod argon2id;
mod block_cipher;
mod derive;
pub mod random;
mod scrub;
mod secret;
mod wrap;
pub mod x25519;

pub use aead::{Forged, NONCE_LEN, TAG_LEN};
pub use argon2id::{Argon2Error, argon2id};
#[cfg(feature = "aws-lc")]
pub use block_cipher::AwsLcCipher;
pub use block_cipher::{Aead, BlockCipher, PortableCipher};
pub use derive::{FileKeys, MacKey, TrailKeys, VaultKeys, digest, fingerprint, hkdf};
pub use scrub::{scrubbed, scrubbed_deep};
pub use secret::{DataKey, Secret, VersionKey};
pub use wrap::{WrappedKey, open_sealed, seal, unwrap, wrap};
