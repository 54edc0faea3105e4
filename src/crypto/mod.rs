//! AEAD, key wrap, key derivation and the types that hold secrets.
//!
//! Nothing here does I/O; randomness comes in through [`random`] alone.

mod aead;
mod block_cipher;
mod derive;
pub mod random;
mod scrub;
mod secret;
mod wrap;

pub use aead::{Forged, NONCE_LEN, TAG_LEN};
#[cfg(feature = "aws-lc")]
pub use block_cipher::AwsLcCipher;
pub use block_cipher::{BlockCipher, PortableCipher};
pub use derive::{FileKeys, MacKey, TrailKeys, VaultKeys, digest, fingerprint};
pub use scrub::{scrubbed, scrubbed_deep};
pub use secret::{DataKey, Secret, VersionKey};
pub use wrap::{WrappedKey, open_sealed, seal, unwrap, wrap};
