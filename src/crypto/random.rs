//! Where randomness comes from.

use rand::{Rng, TryRng};

use crate::sys::fill_from_kernel;

/// Fills a key from the operating system's generator (getrandom(2)).
///
/// # Panics
/// When the system has no randomness to give: no key can be made safely then.
pub fn fill_key(bytes: &mut [u8]) {
    rand::rngs::SysRng.try_fill_bytes(bytes).expect("the operating system gives random bytes");
}

/// Fills an identifier, which must be unique but is not secret.
pub fn fill_id(bytes: &mut [u8; 16]) {
    fill_key(bytes);
}

/// A random id for log records, from the thread's generator; only uniqueness matters.
pub fn request_id() -> [u8; 16] {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    id
}

/// A 96-bit nonce from the kernel's generator; before Linux 6.11, where that takes a system call,
/// from the thread's (ChaCha12, seeded and reseeded from the system).
///
/// Why it does not repeat: every key it is used with is random and its own to one file or one
/// key version. At 2^32 blocks sealed under one data key (16 TiB written to one file) two equal
/// nonces have a probability below 2^-32 (NIST SP 800-38D, section 8.3).
pub fn nonce() -> [u8; super::NONCE_LEN] {
    let mut nonce = [0; super::NONCE_LEN];
    if !fill_from_kernel(&mut nonce) {
        rand::rng().fill_bytes(&mut nonce);
    }
    nonce
}
