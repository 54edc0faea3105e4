//! Passphrases, and the Argon2id (RFC 9106) that turns one into a key.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeyError;
use super::text::BytesText;
use crate::crypto::{Argon2Error, Secret, argon2id, random};

/// The longest passphrase, in bytes; a file of a random key is as good as any sentence.
const MAX_LEN: usize = 64 * 1024;

/// A passphrase: any bytes, at least one. Wiped on drop and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes `bytes` as they are.
    ///
    /// # Errors
    /// [`KeyError::EmptyPassphrase`], [`KeyError::LongPassphrase`] above 64 KiB.
    pub fn new(bytes: Vec<u8>) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            0 => Err(KeyError::EmptyPassphrase),
            1..=MAX_LEN => Ok(Self(bytes)),
            _ => Err(KeyError::LongPassphrase),
        }
    }

    /// Takes what a file holds or a command prints: one line, whose end is not part of it.
    ///
    /// # Errors
    /// As [`Passphrase::new`]; a lone newline is an empty passphrase;
    /// [`KeyError::PassphraseLines`] for more than a line.
    pub fn from_line(mut bytes: Vec<u8>) -> Result<Self, KeyError> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let passphrase = Self::new(bytes)?;
        if passphrase.0.contains(&b'\n') {
            return Err(KeyError::PassphraseLines);
        }
        Ok(passphrase)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// What guessing at a passphrase costs, once a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PassphraseCost {
    /// Memory in KiB, from 8 a lane to 4 GiB.
    pub memory_kib: u32,
    /// Passes over the memory, 1 to 1000.
    pub passes: u32,
    /// Lanes, 1 to 64. They are filled one after the other.
    pub lanes: u32,
}

impl Default for PassphraseCost {
    /// 256 MiB, 3 passes, 1 lane: about a second on a server core of 2020 or later.
    fn default() -> Self {
        Self { memory_kib: 256 * 1024, passes: 3, lanes: 1 }
    }
}

impl PassphraseCost {
    /// Checks the ranges, which bound what a changed file can make its reader spend.
    ///
    /// # Errors
    /// [`KeyError::BadCost`].
    pub fn check(&self) -> Result<(), KeyError> {
        let sound = (1..=64).contains(&self.lanes)
            && (1..=1000).contains(&self.passes)
            && (8 * self.lanes..=4 * 1024 * 1024).contains(&self.memory_kib);
        sound.then_some(()).ok_or(KeyError::BadCost)
    }
}

/// What opening a key file may cost, whatever the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostLimit {
    /// Memory in MiB. All protectors together may take [`CostLimit::PASSES`] passes over it.
    pub memory_mib: u32,
}

impl Default for CostLimit {
    /// 1 GiB: four times what `init` asks for.
    fn default() -> Self {
        Self { memory_mib: 1024 }
    }
}

impl CostLimit {
    /// Passes over all of the memory: 16 protectors, each with the default's three.
    pub const PASSES: u64 = 48;

    /// Checks the costs of all protectors that a passphrase may have to be tried on.
    ///
    /// # Errors
    /// [`KeyError::BadCost`]; [`KeyError::TooCostly`] with the limit that would let it.
    pub(super) fn check(self, costs: impl Iterator<Item = PassphraseCost>) -> Result<(), KeyError> {
        let (mut memory, mut work) = (0, 0);
        for cost in costs {
            cost.check()?;
            let kib = u64::from(cost.memory_kib);
            memory = memory.max(kib);
            work += kib * u64::from(cost.passes);
        }
        let needed = memory.max(work.div_ceil(Self::PASSES)).div_ceil(1024);
        if needed > u64::from(self.memory_mib) {
            return Err(KeyError::TooCostly { limit: self.memory_mib, needed });
        }
        Ok(())
    }
}

/// Sixteen random bytes (RFC 9106, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Salt(BytesText<16>);

impl Salt {
    pub(super) fn random() -> Self {
        let mut bytes = [0; 16];
        random::fill_id(&mut bytes);
        Self(BytesText(bytes))
    }
}

/// The key that `passphrase` gives with `salt` at `cost`.
///
/// # Errors
/// [`KeyError::BadCost`], [`KeyError::NoMemory`].
pub(super) fn derive(
    passphrase: &Passphrase,
    salt: &Salt,
    cost: &PassphraseCost,
) -> Result<Secret, KeyError> {
    cost.check()?;
    argon2id(&passphrase.0, &salt.0.0, cost.memory_kib, cost.passes, cost.lanes).map_err(|error| {
        match error {
            Argon2Error::OutOfRange => KeyError::BadCost,
            Argon2Error::NoMemory => KeyError::NoMemory(cost.memory_kib),
        }
    })
}
