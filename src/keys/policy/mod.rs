//! Who may use a master key: the grants that its key file keeps, and what they come to.
//!
//! A key without grants is for its owner and root. Grants add to that and take from it; a grant
//! that denies wins over all that allow. The answer is a function of the policy, who asks, what
//! for, where and when, and nothing else: [`Policy::decide`].

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

/// How many grants a policy takes.
pub const MAX_GRANTS: usize = 256;

/// The grants of one master key, in the order they were made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Policy {
    grants: Vec<Grant>,
}

impl Policy {
    /// Its grants.
    pub fn grants(&self) -> &[Grant] {
        &self.grants
    }

    /// Whether the default alone counts.
    pub fn is_default(&self) -> bool {
        self.grants.is_empty()
    }

    /// What the code relies on, of what was read from a key file.
    pub(super) fn is_sound(&self) -> bool {
        self.grants.len() <= MAX_GRANTS && self.grants.iter().all(Grant::is_sound)
    }
}

#[cfg(test)]
mod tests;
