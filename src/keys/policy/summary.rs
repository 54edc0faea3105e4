//! What the policies of all keys come to, for those whom no grant has to be looked up for.

use super::{Action, ActionSet, Effect, Policy, Principal};

/// What holds for every key of a ring alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// What every key lets everybody do, at any time and anywhere.
    pub everybody: ActionSet,
    /// What the default lets root and the owner do with every key: all that nothing denies anybody.
    pub owner: ActionSet,
    /// Whether a grant counts at and below some path alone.
    pub by_path: bool,
}

impl Summary {
    /// Of the policies of all keys.
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
