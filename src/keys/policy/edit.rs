//! Changing a policy.

use jiff::Timestamp;

use super::{ActionSet, Grant, MAX_GRANTS, Policy};
use crate::keys::KeyError;

impl Policy {
    /// Adds a grant; one that differs in its actions alone takes those in. Grants whose time is up
    /// go.
    ///
    /// # Errors
    /// [`KeyError::PastGrant`] when its end is not after `now`, [`KeyError::BadGrant`] for one that
    /// does nothing or whose path no file has, [`KeyError::Full`] at [`MAX_GRANTS`].
    pub fn grant(&mut self, grant: Grant, now: Timestamp) -> Result<(), KeyError> {
        if let Some(until) = grant.until.filter(|until| *until <= now) {
            return Err(KeyError::PastGrant(until));
        }
        if !grant.is_sound() {
            return Err(KeyError::BadGrant);
        }
        self.forget_expired(now);
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

    /// Takes the actions of `grant` out of those for the same principal and path, whatever their
    /// end unless it names one. Grants whose time is up go. Returns the actions taken.
    ///
    /// # Errors
    /// [`KeyError::NoSuchGrant`] where there are none of them.
    pub fn revoke(&mut self, grant: &Grant, now: Timestamp) -> Result<ActionSet, KeyError> {
        let mut taken = ActionSet::default();
        for held in &mut self.grants {
            if held.is_like(grant) && (grant.until.is_none() || held.until == grant.until) {
                taken = taken.union(held.actions.common(grant.actions));
                held.actions = held.actions.without(grant.actions);
            }
        }
        if taken.is_empty() {
            return Err(KeyError::NoSuchGrant);
        }
        self.grants.retain(|held| !held.actions.is_empty());
        self.forget_expired(now);
        Ok(taken)
    }

    fn forget_expired(&mut self, now: Timestamp) {
        self.grants.retain(|held| held.is_in_force(now));
    }
}
