//! Changing a policy.

use jiff::Timestamp;

use super::{ActionSet, Grant, MAX_GRANTS, Policy};
use crate::keys::{KeyError, PolicyError};

impl Policy {
    /// Adds a grant, or its actions to a grant that differs in nothing else. Expired grants are
    /// removed.
    ///
    /// # Errors
    /// [`PolicyError::PastGrant`] when its end is not after `now`, [`PolicyError::BadGrant`] for one that
    /// does nothing or whose path no file has, [`KeyError::Full`] at [`MAX_GRANTS`].
    pub fn grant(&mut self, grant: Grant, now: Timestamp) -> Result<(), KeyError> {
        if let Some(until) = grant.until.filter(|until| *until <= now) {
            return Err(PolicyError::PastGrant(until).into());
        }
        if !grant.is_sound() {
            return Err(PolicyError::BadGrant.into());
        }
        self.remove_expired(now);
        let same = |held: &Grant| held.is_like(&grant) && held.until == grant.until;
        match self.grants.iter().position(same) {
            Some(at) => self.grants[at].actions = self.grants[at].actions.union(grant.actions),
            None if self.grants.len() >= MAX_GRANTS => {
                return Err(KeyError::Full { what: "grants of a key", limit: MAX_GRANTS });
            }
            None => self.grants.push(grant),
        }
        Ok(())
    }

    /// Removes the actions of `grant` from the grants with the same principal, effect and path, and
    /// the same end if it has one. Expired grants are removed. Returns the actions that were removed.
    ///
    /// # Errors
    /// [`PolicyError::NoSuchGrant`] where no grant has any of them.
    pub fn revoke(&mut self, grant: &Grant, now: Timestamp) -> Result<ActionSet, KeyError> {
        let mut removed = ActionSet::default();
        for held in &mut self.grants {
            if held.is_like(grant) && (grant.until.is_none() || held.until == grant.until) {
                removed = removed.union(held.actions.common(grant.actions));
                held.actions = held.actions.without(grant.actions);
            }
        }
        if removed.is_empty() {
            return Err(PolicyError::NoSuchGrant.into());
        }
        self.grants.retain(|held| !held.actions.is_empty());
        self.remove_expired(now);
        Ok(removed)
    }

    fn remove_expired(&mut self, now: Timestamp) {
        self.grants.retain(|held| held.is_in_force(now));
    }
}
