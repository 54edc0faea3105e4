//! Passphrases, and the Argon2id (RFC 9106) that turns one into a key.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::crypto::{Argon2Error, Secret, argon2id, random};
use crate::keys::text::BytesText;
use crate::keys::{KeyError, ProtectorError};

/// The longest passphrase, in bytes. A file of random bytes may be one.
const MAX_LEN: usize = 64 * 1024;

/// A passphrase: any bytes, at least one. Wiped on drop and never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes `bytes` as they are.
    ///
    /// # Errors
    /// [`ProtectorError::EmptyPassphrase`], [`ProtectorError::LongPassphrase`] above 64 KiB.
    pub fn new(bytes: Vec<u8>) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(bytes);
        match bytes.len() {
            0 => Err(ProtectorError::EmptyPassphrase.into()),
            1..=MAX_LEN => Ok(Self(bytes)),
            _ => Err(ProtectorError::LongPassphrase.into()),
        }
    }

    /// A passphrase from a file or the output of a command: one line, without its newline.
    ///
    /// # Errors
    /// As [`Passphrase::new`]; a lone newline is an empty passphrase;
    /// [`ProtectorError::PassphraseLines`] for more than a line.
    pub fn from_line(mut bytes: Vec<u8>) -> Result<Self, KeyError> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
        }
        let passphrase = Self::new(bytes)?;
        if passphrase.0.contains(&b'\n') {
            return Err(ProtectorError::PassphraseLines.into());
        }
        Ok(passphrase)
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// The cost of one guess at a passphrase.
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
    /// Checks the ranges. They bound the cost that a forged file can cause.
    ///
    /// # Errors
    /// [`ProtectorError::BadCost`].
    fn check(self) -> Result<(), ProtectorError> {
        let sound = (1..=64).contains(&self.lanes)
            && (1..=1000).contains(&self.passes)
            && (8 * self.lanes..=4 * 1024 * 1024).contains(&self.memory_kib);
        sound.then_some(()).ok_or(ProtectorError::BadCost)
    }
}

/// A limit of the cost of opening a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CostLimit {
    /// Memory in MiB. All protectors together may take [`CostLimit::PASSES`] passes over it.
    pub memory_mib: u32,
}

impl Default for CostLimit {
    /// 1 GiB: four times the default of `init`.
    fn default() -> Self {
        Self { memory_mib: 1024 }
    }
}

impl CostLimit {
    /// Passes over all of the memory: 16 protectors, each with the default's three.
    pub const PASSES: u64 = 48;

    /// Checks the costs of all protectors, since a passphrase may be tried on each.
    ///
    /// # Errors
    /// [`ProtectorError::BadCost`]; [`ProtectorError::TooCostly`] with a sufficient limit.
    pub(in crate::keys) fn check(
        self,
        costs: impl Iterator<Item = PassphraseCost>,
    ) -> Result<(), ProtectorError> {
        let (mut memory, mut work) = (0, 0);
        for cost in costs {
            cost.check()?;
            let kib = u64::from(cost.memory_kib);
            memory = memory.max(kib);
            work += kib * u64::from(cost.passes);
        }
        let needed = memory.max(work.div_ceil(Self::PASSES)).div_ceil(1024);
        if needed > u64::from(self.memory_mib) {
            return Err(ProtectorError::TooCostly { limit: self.memory_mib, needed });
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

/// Derives a key from `passphrase` with `salt` at `cost`.
///
/// # Errors
/// [`ProtectorError::BadCost`], [`ProtectorError::NoMemory`].
pub(super) fn derive(
    passphrase: &Passphrase,
    salt: &Salt,
    cost: &PassphraseCost,
) -> Result<Secret, ProtectorError> {
    cost.check()?;
    argon2id(&passphrase.0, &salt.0.0, cost.memory_kib, cost.passes, cost.lanes).map_err(|error| {
        match error {
            Argon2Error::OutOfRange => ProtectorError::BadCost,
            Argon2Error::NoMemory => ProtectorError::NoMemory(cost.memory_kib),
        }
    })
}
