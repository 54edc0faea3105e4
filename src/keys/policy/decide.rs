//! The evaluation: a pure function.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Action, ActionSet, Asker, Effect, Grant, Policy, Principal};

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

impl Policy {
    /// Whether `asker` may do `action` with the key, for a file at `paths` (one for each name that
    /// is known of it; none for what is not about a file), at `now`.
    pub fn decide(
        &self,
        asker: &Asker,
        action: Action,
        paths: &[&Path],
        now: Timestamp,
    ) -> Decision {
        let by = |effect| {
            self.grants.iter().find(|grant| {
                grant.effect == effect
                    && grant.actions.has(action)
                    && grant.is_in_force(now)
                    && grant.is_for(asker)
                    && grant.covers(paths)
            })
        };
        if let Some(denies) = by(Effect::Deny) {
            return Decision { allowed: false, reason: Reason::Grant(denies.clone()) };
        }
        match by(Effect::Allow) {
            Some(allows) => Decision { allowed: true, reason: Reason::Grant(allows.clone()) },
            None if asker.owner => Decision { allowed: true, reason: Reason::Default },
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
        let nobody = Asker { uid: u32::MAX, gid: u32::MAX, groups: Some(Vec::new()), owner: false };
        let candidates = named.map(|grant| match grant.principal {
            Principal::User(uid) => {
                Asker { uid, owner: uid == 0 || uid == owner, ..nobody.clone() }
            }
            Principal::Group(gid) => Asker { gid, ..nobody.clone() },
            Principal::Everyone => nobody.clone(),
        });
        let owners = [0, owner].map(|uid| Asker { uid, owner: true, ..nobody.clone() });
        let places = self.grants.iter().filter_map(|grant| grant.under.as_deref());
        // A file at the root stands for all that no grant names.
        let places: Vec<&Path> = places.map(Path::new).chain([Path::new("")]).collect();
        owners.into_iter().chain(candidates).any(|asker| {
            places.iter().any(|place| self.decide(&asker, action, &[*place], now).allowed)
        })
    }
}
