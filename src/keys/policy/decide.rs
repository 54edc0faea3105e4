//! The evaluation: a pure function.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Action, ActionSet, Effect, Grant, Policy, Principal, Subject};

/// Whether something may be done, and what decided that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it may.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
}

/// What decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// This grant.
    Grant(Grant),
    /// The default, which is for root and the owner.
    Default,
    /// That no grant allows it, and that the default is not for them.
    NoGrant,
}

/// Whether the default policy allows a subject everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// It does: root, the owner of the vault's directory, and the user of this process.
    Owner,
    /// It allows nothing.
    Other,
}

impl Policy {
    /// Whether `subject` may do `action` with the key, for a file at `paths` (one for each name that
    /// is known of it; none for what is not about a file), at `now`.
    pub fn decide(
        &self,
        subject: &Subject,
        ownership: Ownership,
        action: Action,
        paths: &[&Path],
        now: Timestamp,
    ) -> Decision {
        let by = |effect| {
            self.grants.iter().find(|grant| {
                grant.effect == effect
                    && grant.actions.has(action)
                    && grant.is_in_force(now)
                    && grant.is_for(subject)
                    && grant.covers(paths)
            })
        };
        if let Some(denies) = by(Effect::Deny) {
            return Decision { allowed: false, reason: Reason::Grant(denies.clone()) };
        }
        match by(Effect::Allow) {
            Some(allows) => Decision { allowed: true, reason: Reason::Grant(allows.clone()) },
            None if ownership == Ownership::Owner => {
                Decision { allowed: true, reason: Reason::Default }
            }
            None => Decision { allowed: false, reason: Reason::NoGrant },
        }
    }

    /// Whether a grant for a group may decide about one of these actions, so that it has to be
    /// known which groups somebody is in.
    pub fn asks_for_groups(&self, actions: ActionSet) -> bool {
        self.grants.iter().any(|grant| {
            matches!(grant.principal, Principal::Group(_))
                && !grant.actions.common(actions).is_empty()
        })
    }

    /// Whether there is somebody at all who may do `action` at `now` somewhere: root, the owner,
    /// or one that a grant is for. `owner` is the user of the vault's directory.
    pub fn lets_anybody(&self, action: Action, owner: u32, now: Timestamp) -> bool {
        let named = self.grants.iter().filter(|grant| grant.effect == Effect::Allow);
        let subject = |uid, gid| {
            let is_owner = uid == 0 || uid == owner;
            let ownership = if is_owner { Ownership::Owner } else { Ownership::Other };
            (Subject::user(uid, gid, Vec::new()), ownership)
        };
        let candidates = named.map(|grant| match grant.principal {
            Principal::User(uid) => subject(uid, u32::MAX),
            Principal::Group(gid) => subject(u32::MAX, gid),
            Principal::Everyone => subject(u32::MAX, u32::MAX),
        });
        let owners = [0, owner].map(|uid| subject(uid, u32::MAX));
        let places = self.grants.iter().filter_map(|grant| grant.under.as_deref());
        // A file at the root stands for all that no grant names.
        let places: Vec<&Path> = places.map(Path::new).chain([Path::new("")]).collect();
        owners.into_iter().chain(candidates).any(|(subject, ownership)| {
            places
                .iter()
                .any(|place| self.decide(&subject, ownership, action, &[*place], now).allowed)
        })
    }
}
