//! Policies: the grants of a master key, and the decision that they come to.
//!
//! Without grants, root and the owner may use a key. Grants allow more, or deny; a grant that denies
//! takes precedence over all that allow. [`Policy::decide`] depends on nothing but the policy, the
//! subject, the action, the paths and the time.

mod action;
mod decide;
mod edit;
mod grant;
mod subject;
mod summary;

use serde::{Deserialize, Serialize};

pub use action::{Action, ActionSet};
pub use decide::{Decision, Ownership, Reason};
pub use grant::{Effect, Grant, Principal};
pub use subject::{Groups, Subject};
pub use summary::Summary;

/// The most grants of a policy.
pub const MAX_GRANTS: usize = 256;

/// The grants of one master key, in the order of their creation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policy {
    grants: Vec<Grant>,
}

impl Policy {
    /// The grants.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Whether there are no grants.
    pub fn is_default(&self) -> bool {
        self.grants.is_empty()
    }

    /// The invariants of a policy, checked when one is read from a key file.
    pub(super) fn is_sound(&self) -> bool {
        self.grants.len() <= MAX_GRANTS && self.grants.iter().all(Grant::is_sound)
    }
}

#[cfg(test)]
mod tests;
