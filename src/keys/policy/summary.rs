//! A summary of the policies of all keys, which decides most requests without a look at a grant.

use super::{Action, ActionSet, Effect, Policy, Principal};

/// The decisions that are the same for every key of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Actions that every key allows everybody, at any time and path.
    pub everybody: ActionSet,
    /// Actions that every key allows root and the owner by default: those that no grant denies.
    pub owner: ActionSet,
    /// Whether any grant is limited to a path.
    pub by_path: bool,
}

impl Summary {
    /// The summary of these policies.
    pub fn of<'a>(policies: impl Iterator<Item = &'a Policy>) -> Self {
        let all = ActionSet::of(&Action::ALL);
        policies.fold(Self { everybody: all, owner: all, by_path: false }, |so_far, policy| {
            let grants = policy.grants.iter();
            let mut denied = ActionSet::default();
            let mut to_all = ActionSet::default();
            for grant in grants {
                match grant.effect {
                    Effect::Deny => denied = denied.union(grant.actions),
                    Effect::Allow
                        if grant.principal == Principal::Everyone && grant.is_unconditional() =>
                    {
                        to_all = to_all.union(grant.actions);
                    }
                    Effect::Allow => {}
                }
            }
            Self {
                everybody: so_far.everybody.common(to_all).without(denied),
                owner: so_far.owner.without(denied),
                by_path: so_far.by_path || policy.grants.iter().any(|grant| grant.under.is_some()),
            }
        })
    }
}
