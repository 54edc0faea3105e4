//! What opens a key file: a passphrase, nothing, or what an earlier opening left.

use super::passphrase::{CostLimit, Passphrase};
use super::slot::Holder;
use crate::keys::KeyError;

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
