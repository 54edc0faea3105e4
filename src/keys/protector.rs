//! Protectors: who can open the key file, like the slots of LUKS.

use jiff::Timestamp;
use serde::Serialize;

use super::KeyError;
use super::passphrase::{CostLimit, Passphrase, PassphraseCost};
use super::slot::Holder;

/// Where the passphrase comes from when one is needed. It is asked for only then.
///
/// A closure that returns a passphrase is one, as is a [`Passphrase`], [`NoPassphrase`], and the
/// [`Held`] of a file opened before.
pub trait Unlock {
    /// The passphrase.
    ///
    /// # Errors
    /// [`KeyError::PassphraseNeeded`] when there is none, or what kept it from being read.
    fn passphrase(&self) -> Result<Passphrase, KeyError>;

    /// Whether a passphrase was given beforehand: what opens without one is then not the key file
    /// that was meant.
    fn is_given(&self) -> bool {
        false
    }

    /// What the passphrase's Argon2id may cost, by the word of a file that anybody may have written.
    fn most_cost(&self) -> CostLimit {
        CostLimit::default()
    }

    /// What an earlier opening left to open it with again.
    fn held(&self) -> Option<&Held> {
        None
    }
}

/// Opens only what needs no passphrase.
#[derive(Debug, Clone, Copy)]
pub struct NoPassphrase;

impl Unlock for NoPassphrase {
    fn passphrase(&self) -> Result<Passphrase, KeyError> {
        Err(KeyError::PassphraseNeeded)
    }
}

impl Unlock for Passphrase {
    fn passphrase(&self) -> Result<Passphrase, KeyError> {
        Ok(self.clone())
    }
}

impl<F: Fn() -> Result<Passphrase, KeyError>> Unlock for F {
    fn passphrase(&self) -> Result<Passphrase, KeyError> {
        self()
    }
}

/// What opened a key file once, and opens its later states while that protector stays: for the
/// daemon, which rotates without asking again.
#[derive(Debug, Clone)]
pub struct Held(pub(super) Option<Holder>);

impl Unlock for Held {
    fn passphrase(&self) -> Result<Passphrase, KeyError> {
        Err(KeyError::PassphraseNeeded)
    }

    fn held(&self) -> Option<&Held> {
        Some(self)
    }
}

/// A protector to be made.
#[derive(Debug, Clone)]
pub enum NewProtector {
    /// The key lies in the file, which its mode alone protects.
    Raw,
    /// A passphrase opens the file.
    Passphrase {
        /// The passphrase.
        passphrase: Passphrase,
        /// What a guess at it costs.
        cost: PassphraseCost,
    },
}

/// A protector as `key protector list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtectorDescription {
    /// Its number, never used again in this key file while others remain.
    pub id: u32,
    /// `raw` or `passphrase`.
    pub kind: &'static str,
    /// When it was made.
    pub created: Timestamp,
    /// What a guess costs, for a passphrase.
    pub cost: Option<PassphraseCost>,
}
