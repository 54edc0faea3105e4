//! Descriptions of protectors: of new ones, and of those of a file.

use jiff::Timestamp;
use serde::Serialize;

use super::passphrase::{Passphrase, PassphraseCost};

/// A protector to be created.
#[derive(Debug, Clone)]
pub enum NewProtector {
    /// The key is in the file in the clear: only the mode of the file protects it.
    Raw,
    /// A passphrase opens the file.
    Passphrase {
        /// The passphrase.
        passphrase: Passphrase,
        /// The cost of a guess.
        cost: PassphraseCost,
    },
}

/// What becomes of raw protectors when a passphrase is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawProtectors {
    /// They are removed: the file would open without the passphrase.
    Replace,
    /// They stay.
    Keep,
}

/// A protector as `key protector list` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProtectorDescription {
    /// Its number, which is not reused while later protectors remain.
    pub id: u32,
    /// `raw` or `passphrase`.
    pub kind: &'static str,
    /// When it was created.
    pub created: Timestamp,
    /// The cost of a guess at the passphrase.
    pub cost: Option<PassphraseCost>,
}
