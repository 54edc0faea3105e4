//! Secrets that are wiped on drop and never print.

use std::fmt;

use crate::sys::LockedBytes;

/// 32 secret bytes: kept out of swap, wiped on drop, printed as `[secret]`, compared only in
/// constant time.
///
/// A move copies a pointer, and leaves no second copy of the bytes behind.
#[derive(Clone)]
pub struct Secret(LockedBytes);

impl Secret {
    /// Fresh from the operating system's generator.
    ///
    /// # Panics
    /// When the system has no randomness to give: no key can be made safely then.
    pub fn random() -> Self {
        let mut secret = Self::zeros();
        super::random::fill_key(&mut secret.0[..]);
        secret
    }

    /// Takes over `bytes`, which the caller should wipe.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        let mut secret = Self::zeros();
        secret.0.copy_from_slice(bytes);
        secret
    }

    /// For a key that is about to be written into it.
    pub(super) fn zeros() -> Self {
        Self(LockedBytes::zeros())
    }

    /// The bytes themselves: for the ciphers, and for the key file's sealed body.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    pub(super) fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The key of one file's content and header, or of the vault's own state.
pub type DataKey = Secret;
/// The material of one master key version.
pub type VersionKey = Secret;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_of_itself() {
        let secret = Secret::from_bytes(&[0x41; 32]);
        assert_eq!(format!("{secret:?}"), "[secret]");
    }

    #[test]
    fn random_secrets_differ() {
        assert_ne!(Secret::random().expose(), Secret::random().expose());
    }
}
