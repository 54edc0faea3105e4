//! Keys derived from a key (HKDF-SHA256, RFC 5869) and the MACs they make (HMAC-SHA256, RFC 2104).

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{Aead, BlockCipher, DataKey, Forged, Secret, scrubbed};

/// A key for HMAC-SHA256.
#[derive(Debug, Clone)]
pub struct MacKey(Secret);

impl MacKey {
    /// Bytes of a MAC.
    pub const LEN: usize = 32;

    /// The MAC of `message`.
    pub fn mac(&self, message: &[u8]) -> [u8; Self::LEN] {
        scrubbed(|| self.keyed(message).finalize().into_bytes().into())
    }

    /// [`MacKey::mac`] of one message of many: the caller wipes the stack behind the last.
    pub fn mac_of_many(&self, message: &[u8]) -> [u8; Self::LEN] {
        self.keyed(message).finalize().into_bytes().into()
    }

    /// Compares in constant time.
    ///
    /// # Errors
    /// [`Forged`] when `mac` is not the MAC of `message`.
    pub fn verify(&self, message: &[u8], mac: &[u8; Self::LEN]) -> Result<(), Forged> {
        scrubbed(|| self.keyed(message).verify(mac.into()).map_err(|_| Forged))
    }

    fn keyed(&self, message: &[u8]) -> Hmac<Sha256> {
        Hmac::<Sha256>::new_from_slice(self.0.expose())
            .expect("HMAC takes a key of any length")
            .chain_update(message)
    }
}

/// What a file's data key is used through: the content cipher and the header's MAC key.
pub struct FileKeys {
    /// Seals and opens the file's blocks.
    pub content: BlockCipher,
    /// Authenticates the file's header, and by it commits to the data key.
    pub header: MacKey,
}

impl FileKeys {
    /// Derives both from the data key of the file named by `file_id`.
    pub fn derive(key: &DataKey, file_id: &[u8; 16]) -> Self {
        scrubbed(|| {
            let source = Hkdf::<Sha256>::new(Some(file_id), key.expose());
            Self {
                content: BlockCipher::new(&expand(&source, b"atrest v1 content")),
                header: MacKey(expand(&source, b"atrest v1 header")),
            }
        })
    }
}

/// What the vault key is used through.
#[derive(Debug, Clone)]
pub struct VaultKeys {
    /// Authenticates the vault's description.
    pub description: MacKey,
    /// Authenticates the vault's record of mounts.
    pub state: MacKey,
    /// Authenticates which master key a directory was given.
    pub assignment: MacKey,
    /// Authenticates the mode and the owner of the mount's root.
    pub root: MacKey,
    /// Authenticates a machine's record of the vault.
    pub freshness: MacKey,
}

impl VaultKeys {
    /// Derives them from the vault key of the vault named by `vault_id`.
    pub fn derive(key: &Secret, vault_id: &[u8; 16]) -> Self {
        scrubbed(|| {
            let source = Hkdf::<Sha256>::new(Some(vault_id), key.expose());
            Self {
                description: MacKey(expand(&source, b"atrest v1 vault description")),
                state: MacKey(expand(&source, b"atrest v1 vault state")),
                assignment: MacKey(expand(&source, b"atrest v1 vault assignment")),
                root: MacKey(expand(&source, b"atrest v1 vault root")),
                freshness: MacKey(expand(&source, b"atrest v1 vault freshness")),
            }
        })
    }
}

/// What the trail's key is used through.
#[derive(Debug, Clone)]
pub struct TrailKeys {
    /// Chains the trail's lines.
    pub line: MacKey,
    /// Authenticates how far the trail has come.
    pub seal: MacKey,
}

impl TrailKeys {
    /// Derives them from the trail key of the vault named by `vault_id`.
    pub fn derive(key: &Secret, vault_id: &[u8; 16]) -> Self {
        scrubbed(|| {
            let source = Hkdf::<Sha256>::new(Some(vault_id), key.expose());
            Self {
                line: MacKey(expand(&source, b"atrest v1 trail line")),
                seal: MacKey(expand(&source, b"atrest v1 trail seal")),
            }
        })
    }
}

/// Tells one key from another, and nothing else of it: an HMAC-SHA256 of a constant.
pub fn fingerprint(key: &Secret) -> [u8; MacKey::LEN] {
    MacKey(key.clone()).mac(b"atrest v1 fingerprint")
}

/// Tells `content`, which is JSON, from any other, without telling anything of it or the key.
pub fn digest(key: &Secret, content: &[u8]) -> [u8; MacKey::LEN] {
    MacKey(key.clone()).mac(content)
}

/// HKDF-SHA256 of `source` to 32 bytes.
pub fn hkdf(salt: &[u8], source: &[u8], label: &[u8]) -> Secret {
    expand(&Hkdf::new(Some(salt), source), label)
}

fn expand(source: &Hkdf<Sha256>, label: &[u8]) -> Secret {
    let mut key = Secret::zeros();
    source
        .expand(label, key.expose_mut())
        .expect("32 bytes are within HKDF-SHA256's limit of 8160");
    key
}
