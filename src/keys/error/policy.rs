//! Errors of policies.

use jiff::Timestamp;

use crate::keys::policy::Action;

/// Why a policy cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A grant that ends before it begins.
    #[error("{0} is past: a grant ends in the future, or never")]
    PastGrant(Timestamp),
    /// A grant without actions, or with an impossible path.
    #[error(
        "a grant names at least one action, and no path but a plain one of at most 4096 bytes in the vault"
    )]
    BadGrant,
    /// A change after which nobody may decrypt with the key or change its policy.
    #[error(
        "that would leave nobody who may {action} with the master key `{key}`; `--yes --yes` does it all the same"
    )]
    LocksOut {
        /// The master key's name.
        key: String,
        /// The action that nobody could do.
        action: Action,
    },
    /// No grant has any of the actions to be revoked.
    #[error(
        "there is no such grant, so there is nothing to take back; `atrest policy show` shows those there are"
    )]
    NoSuchGrant,
}
