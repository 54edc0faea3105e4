//! The bytes of the key file: public fields, and the sealed ring, which authenticates them.
//!
//! ```json
//! { "atrest_key_file": 1, "vault": "…", "generation": 7, "protectors": [ … ], "body": "…" }
//! ```
//!
//! `body` is nonce | ciphertext | tag of the ring's JSON, in base64. Its associated data is the same
//! object without `body`, as this program writes it. A file is refused unless this program would
//! write it the same but for white space, so that no other byte can be changed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::body::{ring_from_json, ring_to_json};
use super::mark::KeyFileMark;
use crate::crypto;
use crate::format::{KEY_FILE_VERSION, VaultId};
use crate::keys::protectors::{FileKey, MAX_PROTECTORS, Slot};
use crate::keys::ring::KeyRing;
use crate::keys::text::to_secret_json;

/// A key file, parsed but not opened.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::keys) struct Envelope {
    atrest_key_file: u64,
    pub(in crate::keys) vault: VaultId,
    pub(super) generation: u64,
    pub(in crate::keys) protectors: Vec<Slot>,
    #[serde(skip_serializing_if = "String::is_empty")]
    body: String,
}

/// The reason why bytes are not a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::keys) enum NotAKeyFile {
    /// A version that this program does not know.
    Version(u64),
    /// Bytes that this program does not write.
    Damaged,
}

impl Envelope {
    /// Seals `ring` under `key`, which the protectors already hold.
    pub(super) fn seal(
        ring: &KeyRing,
        generation: u64,
        protectors: Vec<Slot>,
        key: &FileKey,
    ) -> Self {
        let mut envelope = Self {
            atrest_key_file: KEY_FILE_VERSION,
            vault: ring.vault_id(),
            generation,
            protectors,
            body: String::new(),
        };
        let sealed = crypto::seal(&key.body_key(), &to_secret_json(&envelope), &ring_to_json(ring));
        envelope.body = STANDARD.encode(sealed);
        envelope
    }

    /// The ring; `None` where the file does not authenticate.
    pub(in crate::keys) fn open(&mut self, key: &FileKey) -> Option<KeyRing> {
        let body = std::mem::take(&mut self.body);
        let public = to_secret_json(self);
        let sealed = STANDARD.decode(body).ok()?;
        let json = crypto::open_sealed(&key.body_key(), &public, &sealed).ok()?;
        ring_from_json(self.vault, &json)
    }

    /// Which state of the file it is, for who has opened it: of its content in one line, with what
    /// that holds.
    pub(super) fn mark(&self, content: &[u8], key: &FileKey, ring: &KeyRing) -> KeyFileMark {
        KeyFileMark::of(self.generation, content, &key.anchor, ring.version_count())
    }

    /// The content: one line of JSON without its newline.
    pub(super) fn to_content(&self) -> Zeroizing<Vec<u8>> {
        to_secret_json(self)
    }

    /// The file's bytes.
    pub(in crate::keys) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let json = self.to_content();
        let mut bytes = Zeroizing::new(Vec::with_capacity(json.len() + 1));
        bytes.extend_from_slice(&json);
        bytes.push(b'\n');
        bytes
    }

    /// Parses the output of [`Envelope::to_bytes`], with any white space.
    pub(in crate::keys) fn parse(bytes: &[u8]) -> Result<Self, NotAKeyFile> {
        #[derive(Deserialize)]
        struct Probe {
            atrest_key_file: u64,
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(|_| NotAKeyFile::Damaged)?;
        if probe.atrest_key_file != KEY_FILE_VERSION {
            return Err(NotAKeyFile::Version(probe.atrest_key_file));
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(|_| NotAKeyFile::Damaged)?;
        let canonical = to_secret_json(&envelope);
        let visible = |byte: &&u8| !byte.is_ascii_whitespace();
        let same = bytes.iter().filter(visible).eq(canonical.iter().filter(visible));
        let sound = same && (1..=MAX_PROTECTORS).contains(&envelope.protectors.len());
        if sound { Ok(envelope) } else { Err(NotAKeyFile::Damaged) }
    }
}
