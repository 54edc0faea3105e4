//! A protector in the key file, and the secrets that it protects.
//!
//! Two secrets open a body, and each protector gives both:
//!
//! - the *key-encryption key*, new at every write. It is sealed to a public key of each passphrase, so
//!   that a writer needs none of the passphrases. The secrets of an older key file or of a removed
//!   passphrase do not open a newer file.
//! - the *anchor*, which stays while any passphrase does. Only protectors hold it, so that a key file
//!   cannot be forged with the public keys alone, and an attacker has to break AES and the
//!   passphrase, not only X25519.
//!
//! Not prevented: a user who could open the file once and can write it now can forge one that the
//! passphrases of that time open.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::passphrase::{Passphrase, PassphraseCost, Salt, derive};
use super::protector::{NewProtector, ProtectorDescription};
use super::recipient::{Recipient, SealedTo};
use crate::crypto::{self, Forged, Secret, WrappedKey};
use crate::format::VaultId;
use crate::keys::ProtectorError;
use crate::keys::ring::now;
use crate::keys::text::{BytesText, SecretText};

/// How many protectors a key file takes.
pub(in crate::keys) const MAX_PROTECTORS: usize = 16;

/// A protector in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::keys) enum Slot {
    Raw(RawSlot),
    Passphrase(Box<PassphraseSlot>),
}

/// The file's key in the clear.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::keys) struct RawSlot {
    id: u32,
    created: Timestamp,
    anchor: SecretText,
    kek: SecretText,
}

/// The file's key, protected by a passphrase: `private` and `anchor` are wrapped under the
/// passphrase's key, `kek` is sealed to `public`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::keys) struct PassphraseSlot {
    id: u32,
    created: Timestamp,
    argon2id: PassphraseCost,
    salt: Salt,
    public: Recipient,
    private: BytesText<{ WrappedKey::LEN }>,
    anchor: BytesText<{ WrappedKey::LEN }>,
    kek: SealedTo,
}

/// The secrets of a protector that a passphrase opens.
#[derive(Debug, Clone)]
pub(super) struct ProtectorSecrets {
    public: Recipient,
    private: Secret,
    anchor: Secret,
}

/// The two secrets that open a body.
#[derive(Debug, Clone)]
pub(in crate::keys) struct FileKey {
    pub(super) kek: Secret,
    pub(in crate::keys) anchor: Secret,
}

impl FileKey {
    /// The key that seals the body.
    pub(in crate::keys) fn body_key(&self) -> Secret {
        let mut source = Zeroizing::new([0; 64]);
        source[..32].copy_from_slice(self.kek.expose());
        source[32..].copy_from_slice(self.anchor.expose());
        crypto::hkdf(&[], &source[..], b"atrest v1 key file body")
    }
}

impl Slot {
    /// Creates a protector numbered `id`, and the secrets that its passphrase opens.
    ///
    /// # Errors
    /// [`ProtectorError::BadCost`], [`ProtectorError::NoMemory`].
    pub(super) fn create(
        vault: &VaultId,
        id: u32,
        new: &NewProtector,
        key: &FileKey,
    ) -> Result<(Self, Option<ProtectorSecrets>), ProtectorError> {
        match new {
            NewProtector::Raw => {
                let slot = RawSlot {
                    id,
                    created: now(),
                    anchor: SecretText(key.anchor.clone()),
                    kek: SecretText(key.kek.clone()),
                };
                Ok((Self::Raw(slot), None))
            }
            NewProtector::Passphrase { passphrase, cost } => {
                let (slot, holder) = PassphraseSlot::create(vault, id, passphrase, *cost, key)?;
                Ok((Self::Passphrase(Box::new(slot)), Some(holder)))
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        match self {
            Self::Raw(slot) => slot.id,
            Self::Passphrase(slot) => slot.id,
        }
    }

    /// The cost of trying a passphrase on it.
    pub(super) fn cost(&self) -> Option<PassphraseCost> {
        match self {
            Self::Raw(_) => None,
            Self::Passphrase(slot) => Some(slot.argon2id),
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        matches!(self, Self::Raw(_))
    }

    /// Whether `holder` was opened from this protector.
    pub(super) fn is_of(&self, holder: &ProtectorSecrets) -> bool {
        matches!(self, Self::Passphrase(slot) if slot.public == holder.public)
    }

    /// Stores the key of the next state of the file. The anchor of a passphrase's protector cannot be
    /// changed, so that only a file without passphrases gets a new anchor.
    pub(super) fn rekey(&mut self, vault: &VaultId, key: &FileKey) {
        match self {
            Self::Raw(slot) => {
                slot.anchor = SecretText(key.anchor.clone());
                slot.kek = SecretText(key.kek.clone());
            }
            Self::Passphrase(slot) => {
                slot.kek = slot.public.seal(&context(vault, slot.id, b"kek"), &key.kek);
            }
        }
    }

    /// The file's key in the clear, if this protector is raw.
    pub(in crate::keys) fn raw_key(&self) -> Option<FileKey> {
        match self {
            Self::Raw(slot) => {
                Some(FileKey { kek: slot.kek.0.clone(), anchor: slot.anchor.0.clone() })
            }
            Self::Passphrase(_) => None,
        }
    }

    /// The secrets that `passphrase` opens; `None` where it is not this protector's.
    ///
    /// # Errors
    /// [`ProtectorError::BadCost`], [`ProtectorError::NoMemory`].
    pub(super) fn holder(
        &self,
        vault: &VaultId,
        passphrase: &Passphrase,
    ) -> Result<Option<ProtectorSecrets>, ProtectorError> {
        match self {
            Self::Raw(_) => Ok(None),
            Self::Passphrase(slot) => slot.holder(vault, passphrase),
        }
    }

    /// The file's key, if `holder` was opened from this protector.
    ///
    /// # Errors
    /// [`Forged`] where it was not, or the sealed key does not authenticate.
    pub(super) fn open(
        &self,
        vault: &VaultId,
        holder: &ProtectorSecrets,
    ) -> Result<FileKey, Forged> {
        match self {
            Self::Passphrase(slot) if slot.public == holder.public => {
                let kek = slot.kek.open(&holder.private, &context(vault, slot.id, b"kek"))?;
                Ok(FileKey { kek, anchor: holder.anchor.clone() })
            }
            Self::Raw(_) | Self::Passphrase(_) => Err(Forged),
        }
    }

    pub(super) fn describe(&self) -> ProtectorDescription {
        match self {
            Self::Raw(slot) => {
                ProtectorDescription { id: slot.id, kind: "raw", created: slot.created, cost: None }
            }
            Self::Passphrase(slot) => ProtectorDescription {
                id: slot.id,
                kind: "passphrase",
                created: slot.created,
                cost: Some(slot.argon2id),
            },
        }
    }
}

impl PassphraseSlot {
    fn create(
        vault: &VaultId,
        id: u32,
        passphrase: &Passphrase,
        cost: PassphraseCost,
        key: &FileKey,
    ) -> Result<(Self, ProtectorSecrets), ProtectorError> {
        let salt = Salt::random();
        let outer = derive(passphrase, &salt, &cost)?;
        let private = Secret::random();
        let wrap = |name, inner| {
            BytesText(crypto::wrap(&outer, &context(vault, id, name), inner).to_bytes())
        };
        let public = Recipient::of(&private);
        let slot = Self {
            id,
            created: now(),
            argon2id: cost,
            salt,
            public,
            private: wrap(b"private", &private),
            anchor: wrap(b"anchor", &key.anchor),
            kek: public.seal(&context(vault, id, b"kek"), &key.kek),
        };
        Ok((slot, ProtectorSecrets { public, private, anchor: key.anchor.clone() }))
    }

    fn holder(
        &self,
        vault: &VaultId,
        passphrase: &Passphrase,
    ) -> Result<Option<ProtectorSecrets>, ProtectorError> {
        let outer = derive(passphrase, &self.salt, &self.argon2id)?;
        let unwrap = |name, wrapped: &BytesText<_>| {
            let wrapped = WrappedKey::from_bytes(&wrapped.0);
            crypto::unwrap(&outer, &context(vault, self.id, name), &wrapped).ok()
        };
        let private = unwrap(b"private".as_slice(), &self.private);
        let anchor = unwrap(b"anchor".as_slice(), &self.anchor);
        Ok(private.zip(anchor).and_then(|(private, anchor)| {
            let public = Recipient::of(&private);
            (public == self.public).then_some(ProtectorSecrets { public, private, anchor })
        }))
    }
}

/// The associated data of a protector's secrets: vault id, number of the protector, name of the secret.
fn context(vault: &VaultId, id: u32, name: &[u8]) -> Vec<u8> {
    [vault.as_bytes().as_slice(), &id.to_le_bytes(), name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public key is what binds a protector to one passphrase: AES-GCM does not.
    #[test]
    fn what_opens_and_does_not_lead_to_the_public_key_is_not_taken() {
        let (vault, passphrase) =
            (VaultId::random(), Passphrase::new(b"for a test".to_vec()).unwrap());
        let key = FileKey { kek: Secret::random(), anchor: Secret::random() };
        let cost = PassphraseCost { memory_kib: 1024, passes: 1, lanes: 1 };
        let create = |id| PassphraseSlot::create(&vault, id, &passphrase, cost, &key).unwrap();
        let (mut slot, holder) = create(1);
        assert!(slot.holder(&vault, &passphrase).unwrap().is_some());
        let (_, other) = create(2);
        assert!(other.public != holder.public);
        slot.public = other.public;
        assert!(slot.holder(&vault, &passphrase).unwrap().is_none());
    }
}
