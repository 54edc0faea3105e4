//! Sizes of AES-256-GCM (NIST SP 800-38D), and the error of an opening that fails.

/// Length of an AES-GCM nonce in bytes (NIST SP 800-38D, 96 bits).
pub const NONCE_LEN: usize = 12;
/// Length of an AES-GCM tag in bytes (NIST SP 800-38D, 128 bits).
pub const TAG_LEN: usize = 16;

/// A ciphertext, its associated data or its key is not what was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("authentication failed")]
pub struct Forged;
