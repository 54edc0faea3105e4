//! A protector as the key file holds it, and the secrets it gives.
//!
//! Two secrets open a body, and each protector gives both:
//!
//! - the *key-encryption key*, fresh at every write. A passphrase's protector gets it sealed to a
//!   public key whose private half only the passphrase opens, so the writer need not know it. So
//!   what an older key file or a removed passphrase gives does not open a newer file.
//! - the *anchor*, which stays while a passphrase does. Only protectors know it, so nobody else
//!   can make a key file that opens, and what a stranger would have to break is AES and the
//!   passphrase, not X25519.
//!
//! One thing remains: who could open the file once and may write it now can forge one for those
//! whose passphrases are of that time.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeyError;
use super::passphrase::{Passphrase, PassphraseCost, Salt, derive};
use super::protector::{NewProtector, ProtectorDescription};
use super::recipient::{Recipient, SealedTo};
use super::state::now;
use super::text::{BytesText, SecretText};
use crate::crypto::{self, Forged, Secret, WrappedKey};
use crate::format::VolumeId;

/// A protector in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Slot {
    Raw(RawSlot),
    Passphrase(Box<PassphraseSlot>),
}

/// The file's key in the clear.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSlot {
    id: u32,
    created: Timestamp,
    anchor: SecretText,
    kek: SecretText,
}

/// The file's key for whoever knows the passphrase: `private` and `anchor` are wrapped under the
/// passphrase's key, `kek` is sealed to `public`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PassphraseSlot {
    id: u32,
    created: Timestamp,
    argon2id: PassphraseCost,
    salt: Salt,
    public: Recipient,
    private: BytesText<{ WrappedKey::LEN }>,
    anchor: BytesText<{ WrappedKey::LEN }>,
    kek: SealedTo,
}

/// What a passphrase opens of its protector.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    public: Recipient,
    private: Secret,
    anchor: Secret,
}

/// The two secrets that open a body.
#[derive(Debug, Clone)]
pub(super) struct FileKey {
    pub(super) kek: Secret,
    pub(super) anchor: Secret,
}

impl FileKey {
    /// The key that seals the body.
    pub(super) fn body_key(&self) -> Secret {
        let mut source = Zeroizing::new([0; 64]);
        source[..32].copy_from_slice(self.kek.expose());
        source[32..].copy_from_slice(self.anchor.expose());
        crypto::hkdf(&[], &source[..], b"atrest v1 key file body")
    }
}

impl Slot {
    /// Makes a protector numbered `id`, with the holder that its passphrase will open.
    ///
    /// # Errors
    /// [`KeyError::BadCost`], [`KeyError::NoMemory`].
    pub(super) fn create(
        vault: &VolumeId,
        id: u32,
        new: &NewProtector,
        key: &FileKey,
    ) -> Result<(Self, Option<Holder>), KeyError> {
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

    /// What trying a passphrase on it costs.
    pub(super) fn cost(&self) -> Option<PassphraseCost> {
        match self {
            Self::Raw(_) => None,
            Self::Passphrase(slot) => Some(slot.argon2id),
        }
    }

    pub(super) fn is_raw(&self) -> bool {
        matches!(self, Self::Raw(_))
    }

    /// Whether this is the protector that `holder` was opened from.
    pub(super) fn is_of(&self, holder: &Holder) -> bool {
        matches!(self, Self::Passphrase(slot) if slot.public == holder.public)
    }

    /// Hands over the key of the next state of the file. A passphrase's protector keeps its
    /// anchor, which is why only a file without one gets another anchor.
    pub(super) fn rekey(&mut self, vault: &VolumeId, key: &FileKey) {
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

    /// The file's key, where the file itself gives it.
    pub(super) fn raw_key(&self) -> Option<FileKey> {
        match self {
            Self::Raw(slot) => {
                Some(FileKey { kek: slot.kek.0.clone(), anchor: slot.anchor.0.clone() })
            }
            Self::Passphrase(_) => None,
        }
    }

    /// What `passphrase` opens of it, or `None` when it is another one's.
    ///
    /// # Errors
    /// [`KeyError::BadCost`], [`KeyError::NoMemory`].
    pub(super) fn holder(
        &self,
        vault: &VolumeId,
        passphrase: &Passphrase,
    ) -> Result<Option<Holder>, KeyError> {
        match self {
            Self::Raw(_) => Ok(None),
            Self::Passphrase(slot) => slot.holder(vault, passphrase),
        }
    }

    /// The file's key, if this protector is the holder's.
    pub(super) fn open(&self, vault: &VolumeId, holder: &Holder) -> Result<FileKey, Forged> {
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
        vault: &VolumeId,
        id: u32,
        passphrase: &Passphrase,
        cost: PassphraseCost,
        key: &FileKey,
    ) -> Result<(Self, Holder), KeyError> {
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
        Ok((slot, Holder { public, private, anchor: key.anchor.clone() }))
    }

    fn holder(
        &self,
        vault: &VolumeId,
        passphrase: &Passphrase,
    ) -> Result<Option<Holder>, KeyError> {
        let outer = derive(passphrase, &self.salt, &self.argon2id)?;
        let unwrap = |name, wrapped: &BytesText<_>| {
            let wrapped = WrappedKey::from_bytes(&wrapped.0);
            crypto::unwrap(&outer, &context(vault, self.id, name), &wrapped).ok()
        };
        let private = unwrap(b"private".as_slice(), &self.private);
        let anchor = unwrap(b"anchor".as_slice(), &self.anchor);
        Ok(private.zip(anchor).and_then(|(private, anchor)| {
            let public = Recipient::of(&private);
            (public == self.public).then_some(Holder { public, private, anchor })
        }))
    }
}

/// What a protector's secrets are bound to: vault id, protector, which secret.
fn context(vault: &VolumeId, id: u32, name: &[u8]) -> Vec<u8> {
    [vault.as_bytes().as_slice(), &id.to_le_bytes(), name].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The public key is what binds a protector to one passphrase: AES-GCM does not.
    #[test]
    fn what_opens_and_does_not_lead_to_the_public_key_is_not_taken() {
        let (vault, passphrase) =
            (VolumeId::random(), Passphrase::new(b"for a test".to_vec()).unwrap());
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
