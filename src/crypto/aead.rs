//! AES-256-GCM (NIST SP 800-38D): its sizes, its interface, and the error of a failed opening.

use super::Secret;

/// Length of an AES-GCM nonce in bytes (NIST SP 800-38D, 96 bits).
pub const NONCE_LEN: usize = 12;
/// Length of an AES-GCM tag in bytes (NIST SP 800-38D, 128 bits).
pub const TAG_LEN: usize = 16;

/// A ciphertext, its associated data or its key is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Forged;

/// AES-256-GCM under one key.
pub trait Aead {
    /// Expands `key`.
    fn new(key: &Secret) -> Self;

    /// Encrypts `data` in place and returns its tag.
    ///
    /// # Panics
    /// Never for data of a block's size: AES-GCM takes up to 64 GiB.
    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN];

    /// Decrypts `sealed` into `plain`, of the same length.
    ///
    /// # Errors
    /// [`Forged`] when tag, data, nonce and associated data do not belong together; `plain` then
    /// holds nothing of the plaintext.
    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        plain: &mut [u8],
    ) -> Result<(), Forged>;
}
