//! Wrapping: a key sealed under another key.

use zeroize::Zeroizing;

use super::{Aead, Forged, NONCE_LEN, PortableCipher, Secret, TAG_LEN, random, scrubbed};

/// A 32-byte key sealed under another with AES-256-GCM: nonce, ciphertext, tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey {
    /// The wrap's own nonce.
    pub nonce: [u8; NONCE_LEN],
    /// The sealed key.
    pub sealed: [u8; 32],
    /// The tag over key and associated data.
    pub tag: [u8; TAG_LEN],
}

impl WrappedKey {
    /// Bytes of a wrapped key: 12 + 32 + 16.
    pub const LEN: usize = NONCE_LEN + 32 + TAG_LEN;

    /// Nonce, sealed key, tag, in this order.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..NONCE_LEN].copy_from_slice(&self.nonce);
        bytes[NONCE_LEN..NONCE_LEN + 32].copy_from_slice(&self.sealed);
        bytes[NONCE_LEN + 32..].copy_from_slice(&self.tag);
        bytes
    }

    /// The reverse of [`WrappedKey::to_bytes`].
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Self {
        let mut wrapped = Self { nonce: [0; NONCE_LEN], sealed: [0; 32], tag: [0; TAG_LEN] };
        wrapped.nonce.copy_from_slice(&bytes[..NONCE_LEN]);
        wrapped.sealed.copy_from_slice(&bytes[NONCE_LEN..NONCE_LEN + 32]);
        wrapped.tag.copy_from_slice(&bytes[NONCE_LEN + 32..]);
        wrapped
    }
}

/// Seals `key` under `wrapping_key`, bound to `aad`, with a fresh nonce.
pub fn wrap(wrapping_key: &Secret, aad: &[u8], key: &Secret) -> WrappedKey {
    let nonce = random::nonce();
    scrubbed(|| {
        let mut sealed = *key.expose();
        let tag = PortableCipher::new(wrapping_key).seal(&nonce, aad, &mut sealed);
        WrappedKey { nonce, sealed, tag }
    })
}

/// Opens a wrapped key.
///
/// # Errors
/// [`Forged`] when it was not wrapped by this key for this `aad`.
pub fn unwrap(wrapping_key: &Secret, aad: &[u8], wrapped: &WrappedKey) -> Result<Secret, Forged> {
    let mut key = Secret::zeros();
    let WrappedKey { nonce, sealed, tag } = wrapped;
    scrubbed(|| PortableCipher::new(wrapping_key).open(nonce, aad, sealed, tag, key.expose_mut()))?;
    Ok(key)
}

/// Seals a message of any length under `key`: nonce | ciphertext | tag.
pub fn seal(key: &Secret, aad: &[u8], message: &[u8]) -> Vec<u8> {
    let nonce = random::nonce();
    let mut sealed = Vec::with_capacity(NONCE_LEN + message.len() + TAG_LEN);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(message);
    let text = &mut sealed[NONCE_LEN..];
    let tag = scrubbed(|| PortableCipher::new(key).seal(&nonce, aad, text));
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens what [`seal`] made.
///
/// # Errors
/// [`Forged`] when it is too short or was not sealed by this key for this `aad`.
pub fn open_sealed(key: &Secret, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Forged> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(Forged)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Forged)?;
    let mut message = Zeroizing::new(vec![0; ciphertext.len()]);
    scrubbed(|| PortableCipher::new(key).open(nonce, aad, ciphertext, tag, &mut message))?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrap_opens_for_its_own_key_and_context_alone() {
        let (outer, other, inner) = (Secret::random(), Secret::random(), Secret::random());
        let wrapped = wrap(&outer, b"context", &inner);
        let opened = unwrap(&outer, b"context", &wrapped).unwrap();
        assert_eq!(opened.expose(), inner.expose());
        assert!(unwrap(&outer, b"other", &wrapped).is_err());
        assert!(unwrap(&other, b"context", &wrapped).is_err());
        assert_eq!(WrappedKey::from_bytes(&wrapped.to_bytes()), wrapped);
    }

    #[test]
    fn every_bit_of_a_sealed_message_matters() {
        let key = Secret::random();
        let sealed = seal(&key, b"aad", b"message");
        assert_eq!(&open_sealed(&key, b"aad", &sealed).unwrap()[..], b"message");
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(open_sealed(&key, b"aad", &forged).is_err(), "bit {bit}");
        }
        for cut in 0..sealed.len() {
            assert!(open_sealed(&key, b"aad", &sealed[..cut]).is_err());
        }
    }
}
