//! AES-256-GCM (NIST SP 800-38D): one interface, two implementations with one format.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
#[cfg(feature = "aws-lc")]
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::{Forged, NONCE_LEN, Secret, TAG_LEN};

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

/// The cipher that blocks are sealed with in this build.
#[cfg(feature = "aws-lc")]
pub type BlockCipher = AwsLcCipher;
/// The cipher that blocks are sealed with in this build.
#[cfg(not(feature = "aws-lc"))]
pub type BlockCipher = PortableCipher;

/// AES-256-GCM by AWS-LC: the fast one.
#[cfg(feature = "aws-lc")]
pub struct AwsLcCipher(LessSafeKey);

#[cfg(feature = "aws-lc")]
impl Aead for AwsLcCipher {
    fn new(key: &Secret) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key.expose());
        Self(LessSafeKey::new(key.expect("32 bytes are an AES-256 key")))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(aad), data)
            .expect("a block is shorter than AES-GCM's limit");
        let mut bytes = [0; TAG_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        plain: &mut [u8],
    ) -> Result<(), Forged> {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), sealed, tag, plain).map_err(|_| Forged)
    }
}

/// AES-256-GCM by the `aes-gcm` crate: pure Rust, for the wrap and where AWS-LC is not built.
///
/// Boxed, so that a move leaves no copy of the round keys behind.
pub struct PortableCipher(Box<Aes256Gcm>);

impl Aead for PortableCipher {
    fn new(key: &Secret) -> Self {
        Self(Box::new(Aes256Gcm::new(key.expose().into())))
    }

    fn seal(&self, nonce: &[u8; NONCE_LEN], aad: &[u8], data: &mut [u8]) -> [u8; TAG_LEN] {
        self.0
            .encrypt_inout_detached(nonce.into(), aad, InOutBuf::from(data))
            .expect("a block is shorter than AES-GCM's limit")
            .into()
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
        tag: &[u8; TAG_LEN],
        plain: &mut [u8],
    ) -> Result<(), Forged> {
        let buffer = InOutBuf::new(sealed, plain).map_err(|_| Forged)?;
        self.0.decrypt_inout_detached(nonce.into(), aad, buffer, tag.into()).map_err(|_| Forged)
    }
}
