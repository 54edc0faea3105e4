//! X25519 (RFC 7748): keys that two parties agree on.

use x25519_dalek::{PublicKey, StaticSecret};

use super::{Secret, hkdf};

/// The public half of `private`.
pub fn public_key(private: &Secret) -> [u8; 32] {
    PublicKey::from(&exponent(private)).to_bytes()
}

/// HKDF-SHA256 of the secret that `private` shares with the holder of the private half of `public`.
pub fn shared_key(private: &Secret, public: &[u8; 32], salt: &[u8], label: &[u8]) -> Secret {
    let shared = exponent(private).diffie_hellman(&PublicKey::from(*public));
    hkdf(salt, shared.as_bytes(), label)
}

fn exponent(private: &Secret) -> StaticSecret {
    StaticSecret::from(*private.expose())
}
