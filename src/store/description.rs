//! The vault's description: what can be known of a vault without its key.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};

use super::own_files::OwnFiles;
use super::{RewrapTarget, VaultError};
use crate::crypto::{MacKey, Secret, VaultKeys, WrappedKey};
use crate::format::{Authenticated, FORMAT_VERSION, JsonMac, KeyVersion, MasterKeyId, VaultId};
use crate::keys::{DEFAULT_KEY, KeyError, KeyRing, RingError};
use crate::sys;

const FILE: &str = "vault.json";

/// How names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NameMode {
    /// As they are.
    Plain,
}

impl NameMode {
    /// The mode's name in the description and in `status`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
        }
    }
}

/// What `.atrest/vault.json` says, authenticated by the vault key that it carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Description {
    /// The format's version.
    pub format: u16,
    /// The vault's id.
    pub vault: VaultId,
    /// How names are stored.
    pub names: NameMode,
    /// The master key that wraps the vault key.
    pub key: MasterKeyId,
    /// The version of that master key.
    pub key_version: KeyVersion,
    wrapped_vault_key: String,
}

#[derive(Deserialize)]
struct AnyVersion {
    format: u16,
}

impl Description {
    /// That of the vault in `dir`, which is not authenticated.
    ///
    /// # Errors
    /// [`VaultError`] when `dir` is not a vault of this format.
    pub(super) fn of(dir: &Path) -> Result<Self, VaultError> {
        Ok(Self::read(&open_own_files(dir)?)?.0)
    }

    /// Describes a new vault, with a new vault key.
    pub(super) fn create(ring: &KeyRing, names: NameMode) -> Result<(Self, Secret), VaultError> {
        let vault_key = Secret::random();
        let vault = ring.vault_id();
        let (key, key_version, wrapped) = ring.wrap(DEFAULT_KEY, vault.as_bytes(), &vault_key)?;
        let wrapped_vault_key = BASE64_STANDARD.encode(wrapped.to_bytes());
        let format = FORMAT_VERSION;
        Ok((Self { format, vault, names, key, key_version, wrapped_vault_key }, vault_key))
    }

    /// Reads the description; it is to be believed only after [`Description::unlock`].
    pub(super) fn read(own: &OwnFiles) -> Result<(Self, JsonMac), VaultError> {
        let bytes = own.read(FILE).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => VaultError::NotAVault,
            _ => VaultError::Io(error),
        })?;
        Self::parse(&bytes)
    }

    /// The description in the file's bytes.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, JsonMac), VaultError> {
        let any: AnyVersion =
            serde_json::from_slice(bytes).map_err(|_| VaultError::Damaged(FILE))?;
        if any.format != FORMAT_VERSION {
            return Err(VaultError::Version(any.format));
        }
        let read: Authenticated<Self> =
            serde_json::from_slice(bytes).map_err(|_| VaultError::Damaged(FILE))?;
        Ok(read.into_unverified())
    }

    /// Writes the description, authenticated by its vault key.
    pub(super) fn write(&self, own: &OwnFiles, vault_key: &Secret) -> Result<(), VaultError> {
        Ok(own.replace(FILE, &self.authenticated(vault_key)?)?)
    }

    /// The file's bytes.
    pub(super) fn authenticated(&self, vault_key: &Secret) -> Result<Vec<u8>, VaultError> {
        Ok(Authenticated::new(self.clone(), &self.mac_key(vault_key))?.to_lines()?)
    }

    /// Checks the MAC that stands beside the description.
    pub(super) fn authenticate(&self, mac: &JsonMac, vault_key: &Secret) -> Result<(), VaultError> {
        let is_authentic = mac.verifies(self, &self.mac_key(vault_key));
        is_authentic.then_some(()).ok_or(VaultError::Damaged(FILE))
    }

    /// Unwraps the vault key and authenticates the description by it.
    pub(super) fn unlock(&self, mac: &JsonMac, ring: &KeyRing) -> Result<Secret, VaultError> {
        if ring.vault_id() != self.vault {
            return Err(VaultError::OtherKeyFile { vault: self.vault, keys: ring.vault_id() });
        }
        let wrapped = BASE64_STANDARD.decode(&self.wrapped_vault_key).ok();
        let wrapped = wrapped.and_then(|bytes| bytes.try_into().ok());
        let wrapped = WrappedKey::from_bytes(&wrapped.ok_or(VaultError::Damaged(FILE))?);
        let unwrapped = ring.unwrap(&self.key, self.key_version, self.vault.as_bytes(), &wrapped);
        let vault_key = unwrapped.map_err(|error| match error {
            KeyError::Ring(
                RingError::NoSuchKeyId(_)
                | RingError::NoSuchVersion { .. }
                | RingError::VersionRetired { .. },
            ) => VaultError::KeysApart(error),
            error => error.into(),
        })?;
        self.authenticate(mac, &vault_key)?;
        Ok(vault_key)
    }

    /// The description with its vault key wrapped by the newest version of the target; `None` when
    /// it is.
    pub(super) fn rewrap(
        &self,
        ring: &KeyRing,
        vault_key: &Secret,
        to: RewrapTarget,
    ) -> Result<Option<Self>, VaultError> {
        let target = to.id(self.key);
        if target == self.key && ring.key_by_id(&target)?.current() == self.key_version {
            return Ok(None);
        }
        let (key, key_version, wrapped) =
            ring.wrap_by_id(&target, self.vault.as_bytes(), vault_key)?;
        let wrapped_vault_key = BASE64_STANDARD.encode(wrapped.to_bytes());
        Ok(Some(Self { key, key_version, wrapped_vault_key, ..self.clone() }))
    }

    fn mac_key(&self, vault_key: &Secret) -> MacKey {
        VaultKeys::derive(vault_key, self.vault.as_bytes()).description
    }
}

pub(super) fn open_dir(dir: &Path) -> Result<OwnedFd, VaultError> {
    sys::open_directory(dir).map_err(|errno| VaultError::Unreachable(errno.into()))
}

pub(super) fn open_own_files(dir: &Path) -> Result<OwnFiles, VaultError> {
    own_files(&open_dir(dir)?)
}

pub(super) fn own_files(root: &OwnedFd) -> Result<OwnFiles, VaultError> {
    OwnFiles::open(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => VaultError::NotAVault,
        _ => VaultError::Io(error),
    })
}
