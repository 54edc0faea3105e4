//! Protectors: who can open the key file, like the slots of LUKS.

use jiff::Timestamp;
use serde::Serialize;

use super::passphrase::{Passphrase, PassphraseCost};

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
