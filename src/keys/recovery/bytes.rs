//! The recovery form: a ring in few bytes, to be printed and typed in again.
//!
//! | bytes | field |
//! |---|---|
//! | 1 | version of this form, 1 without a trail key and 2 with one |
//! | 16 | vault id |
//! | 16 | id of the default key |
//! | 32 | the trail key, in form 2 |
//! | 2 | the number of master keys |
//! | 16; 1 + n | a master key's id; its name's length and name |
//! | 1 | its state: enabled 0, disabled 1, pending deletion 2, destroyed 3 |
//! | 8 | when it may be destroyed, if pending deletion |
//! | 4; 4 | its rotation period in days; the number of its versions |
//! | 4; 8; 1 | a version's number; when it was created; 1 if it has material, 0 if it is retired |
//! | 32 or 8 | its material, or when it was retired |
//! | 8 | the first bytes of SHA-256 of all before |
//!
//! Integers are little-endian, times are seconds since 1970 (UTC).

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::crypto::Secret;
use crate::format::{KeyVersion, MasterKeyId, VaultId};
use crate::keys::policy::Policy;
use crate::keys::ring::{KeyRing, KeyState, MasterKey, Version};
use crate::keys::{KeyError, RecoveryError};

const WITHOUT_TRAIL: u8 = 1;
const WITH_TRAIL: u8 = 2;
const CHECK_LEN: usize = 8;

impl KeyRing {
    /// The whole ring in the clear, material included, short enough for a QR code.
    pub fn recovery_bytes(&self) -> Zeroizing<Vec<u8>> {
        let versions: usize = self.keys.iter().map(|key| key.versions.len()).sum();
        let mut out = Zeroizing::new(Vec::with_capacity(75 + 98 * self.keys.len() + 45 * versions));
        out.push(if self.trail.is_some() { WITH_TRAIL } else { WITHOUT_TRAIL });
        out.extend_from_slice(self.vault_id.as_bytes());
        out.extend_from_slice(self.default.as_bytes());
        self.trail.iter().for_each(|key| out.extend_from_slice(key.expose()));
        out.extend_from_slice(&(self.keys.len() as u16).to_le_bytes());
        self.keys.iter().for_each(|key| write_key(&mut out, key));
        let check = check(&out);
        out.extend_from_slice(&check);
        out
    }

    /// The reverse of [`KeyRing::recovery_bytes`].
    ///
    /// # Errors
    /// [`RecoveryError::Damaged`], [`RecoveryError::FromTheFuture`].
    pub fn from_recovery_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        let (content, found) =
            bytes.split_last_chunk::<CHECK_LEN>().ok_or(RecoveryError::Damaged)?;
        if check(content) != *found {
            return Err(RecoveryError::Damaged.into());
        }
        let form = match content.first() {
            Some(&WITHOUT_TRAIL) => Form::WithoutTrail,
            Some(&WITH_TRAIL) => Form::WithTrail,
            Some(&form) => return Err(RecoveryError::FromTheFuture(form).into()),
            None => return Err(RecoveryError::Damaged.into()),
        };
        let mut input = Input(&content[1..]);
        let ring = read_ring(&mut input, form).filter(|ring| input.0.is_empty() && ring.is_sound());
        ring.ok_or(RecoveryError::Damaged.into())
    }
}

pub(in crate::keys) fn check(content: &[u8]) -> [u8; CHECK_LEN] {
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&Sha256::digest(content)[..CHECK_LEN]);
    check
}

fn write_key(out: &mut Vec<u8>, key: &MasterKey) {
    out.extend_from_slice(key.id.as_bytes());
    out.push(key.name.len() as u8);
    out.extend_from_slice(key.name.as_bytes());
    match key.state {
        KeyState::Enabled => out.push(0),
        KeyState::Disabled => out.push(1),
        KeyState::PendingDeletion(until) => {
            out.push(2);
            out.extend_from_slice(&until.as_second().to_le_bytes());
        }
        KeyState::Destroyed => out.push(3),
    }
    out.extend_from_slice(&key.rotate_every_days.to_le_bytes());
    out.extend_from_slice(&(key.versions.len() as u32).to_le_bytes());
    for version in &key.versions {
        out.extend_from_slice(&version.number.0.to_le_bytes());
        out.extend_from_slice(&version.created.as_second().to_le_bytes());
        out.push(version.material.is_some().into());
        match (&version.material, version.retired) {
            (Some(material), _) => out.extend_from_slice(material.expose()),
            (None, retired) => {
                let retired = retired.unwrap_or(version.created);
                out.extend_from_slice(&retired.as_second().to_le_bytes());
            }
        }
    }
}

/// Whether the key of the trail is part of the form.
enum Form {
    WithoutTrail,
    WithTrail,
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn secret(&mut self) -> Option<Secret> {
        let mut bytes: [u8; 32] = self.take()?;
        let secret = Secret::from_bytes(&bytes);
        bytes.zeroize();
        Some(secret)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn time(&mut self) -> Option<Timestamp> {
        Timestamp::from_second(i64::from_le_bytes(self.take()?)).ok()
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(taken.to_vec()).ok()
    }
}

fn read_ring(input: &mut Input, form: Form) -> Option<KeyRing> {
    let vault_id = VaultId::from_bytes(input.take()?);
    let default = MasterKeyId::from_bytes(input.take()?);
    let trail = match form {
        Form::WithTrail => Some(input.secret()?),
        Form::WithoutTrail => None,
    };
    let count = u16::from_le_bytes(input.take()?);
    let keys = (0..count).map(|_| read_key(input)).collect::<Option<_>>()?;
    Some(KeyRing { vault_id, default, keys, trail })
}

fn read_key(input: &mut Input) -> Option<MasterKey> {
    let id = MasterKeyId::from_bytes(input.take()?);
    let length = input.byte()?;
    let name = input.text(length.into())?;
    let state = match input.byte()? {
        0 => KeyState::Enabled,
        1 => KeyState::Disabled,
        2 => KeyState::PendingDeletion(input.time()?),
        3 => KeyState::Destroyed,
        _ => return None,
    };
    let rotate_every_days = input.number()?;
    let count = input.number()?;
    let versions = (0..count).map(|_| read_version(input)).collect::<Option<Vec<_>>>()?;
    let current = versions.last()?.number;
    // A backup holds no grants: a restored key has the default policy.
    let policy = Policy::default();
    Some(MasterKey { id, name, state, current, rotate_every_days, versions, policy })
}

fn read_version(input: &mut Input) -> Option<Version> {
    let number = KeyVersion(input.number()?);
    let created = input.time()?;
    let (material, retired) = match input.byte()? {
        0 => (None, Some(input.time()?)),
        1 => (Some(input.secret()?), None),
        _ => return None,
    };
    Some(Version { number, created, retired, material })
}
