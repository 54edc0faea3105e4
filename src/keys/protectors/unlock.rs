//! Opening a key file: with a passphrase, with none, or with a protector opened earlier.

use super::passphrase::{CostLimit, Passphrase};
use super::slot::ProtectorSecrets;
use crate::keys::{KeyError, ProtectorError};

/// A source of the passphrase, used only where one is needed.
///
/// Implemented by closures that return a passphrase, [`Passphrase`], [`NoPassphrase`] and
/// [`HeldProtector`].
pub trait Unlock {
    /// The passphrase.
    ///
    /// # Errors
    /// [`ProtectorError::PassphraseNeeded`] when there is none; those of reading it.
    fn passphrase(&self) -> Result<Passphrase, KeyError>;

    /// Whether a passphrase was given. A key file that opens without one is then refused: it is not
    /// the one that was meant.
    fn is_given(&self) -> bool {
        false
    }

    /// The limit of the passphrase's Argon2id cost, which a file of unknown origin asks for.
    fn cost_limit(&self) -> CostLimit {
        CostLimit::default()
    }

    /// A protector that was opened earlier.
    fn held(&self) -> Option<&HeldProtector> {
        None
    }
}

/// Opens only what needs no passphrase.
#[derive(Debug, Clone, Copy)]
pub struct NoPassphrase;

impl Unlock for NoPassphrase {
    fn passphrase(&self) -> Result<Passphrase, KeyError> {
        Err(ProtectorError::PassphraseNeeded.into())
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

/// The protector that opened a key file. It opens later states while the file keeps it, so that the
/// daemon can rotate without the passphrase. `None` for a raw protector.
#[derive(Debug, Clone)]
pub struct HeldProtector(pub(super) Option<ProtectorSecrets>);

impl Unlock for HeldProtector {
    fn passphrase(&self) -> Result<Passphrase, KeyError> {
        Err(ProtectorError::PassphraseNeeded.into())
    }

    fn held(&self) -> Option<&HeldProtector> {
        Some(self)
    }
}
