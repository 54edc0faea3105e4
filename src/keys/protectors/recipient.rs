//! A key sealed to a public key: X25519 (RFC 7748) with an ephemeral key, HKDF-SHA256, AES-256-GCM
//! (the construction of age's X25519 recipient).
//!
//! It lets whoever writes the key file hand its fresh key to every protector without knowing the
//! other passphrases.

use serde::{Deserialize, Serialize};

use crate::crypto::{self, Forged, Secret, WrappedKey, x25519};
use crate::keys::text::BytesText;

/// A public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Recipient(BytesText<32>);

/// What [`Recipient::seal`] made: ephemeral public key 32, wrapped key 60.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct SealedTo(BytesText<{ SEALED_LEN }>);

const SEALED_LEN: usize = 32 + WrappedKey::LEN;

impl Recipient {
    /// The public half of `private`.
    pub(super) fn of(private: &Secret) -> Self {
        Self(BytesText(x25519::public_key(private)))
    }

    /// Seals `key`, bound to `aad`, for the holder of the private half.
    pub(super) fn seal(&self, aad: &[u8], key: &Secret) -> SealedTo {
        let ephemeral = Secret::random();
        let public = Self::of(&ephemeral);
        let wrapping = wrapping_key(&ephemeral, self, &public, self);
        let wrapped = crypto::wrap(&wrapping, aad, key);
        let mut bytes = [0; SEALED_LEN];
        bytes[..32].copy_from_slice(&public.0.0);
        bytes[32..].copy_from_slice(&wrapped.to_bytes());
        SealedTo(BytesText(bytes))
    }
}

impl SealedTo {
    /// Opens it with the private half.
    ///
    /// # Errors
    /// [`Forged`] when it was not sealed to this key for this `aad`.
    pub(super) fn open(&self, private: &Secret, aad: &[u8]) -> Result<Secret, Forged> {
        let (public, wrapped) = self.0.0.split_first_chunk::<32>().ok_or(Forged)?;
        let wrapped = wrapped.first_chunk::<{ WrappedKey::LEN }>().ok_or(Forged)?;
        let sender = Recipient(BytesText(*public));
        let wrapping = wrapping_key(private, &sender, &sender, &Recipient::of(private));
        crypto::unwrap(&wrapping, aad, &WrappedKey::from_bytes(wrapped))
    }
}

fn wrapping_key(
    private: &Secret,
    other: &Recipient,
    sender: &Recipient,
    recipient: &Recipient,
) -> Secret {
    let mut salt = [0; 64];
    salt[..32].copy_from_slice(&sender.0.0);
    salt[32..].copy_from_slice(&recipient.0.0);
    x25519::shared_key(private, &other.0.0, &salt, b"atrest v1 key file protector")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_private_half_opens_and_only_for_its_context() {
        let (private, other, key) = (Secret::random(), Secret::random(), Secret::random());
        let sealed = Recipient::of(&private).seal(b"context", &key);
        assert_eq!(sealed.open(&private, b"context").unwrap().expose(), key.expose());
        assert!(sealed.open(&other, b"context").is_err());
        assert!(sealed.open(&private, b"other").is_err());
        for byte in 0..SEALED_LEN {
            let mut forged = sealed;
            forged.0.0[byte] ^= 1;
            assert!(forged.open(&private, b"context").is_err(), "byte {byte}");
        }
    }
}
