//! What a change of a policy does to the keys, and the policies there are.

use crate::keys::policy::{Action, Effect};
use crate::keys::{KeyError, KeyRing, MasterKey, PolicyError, Timestamp};
use crate::service::request::PolicyChange;
use crate::service::response::{KeyPolicy, Policies, PolicyChanged};
use crate::service::text::grant_words;

impl PolicyChange {
    /// Does it to a ring, of a vault whose directory is of the user `owner`.
    ///
    /// # Errors
    /// [`KeyError`] where the key or the grant does not allow it; [`PolicyError::LocksOut`] unless
    /// that is confirmed.
    pub fn apply(&self, ring: &mut KeyRing, owner: u32) -> Result<PolicyChanged, KeyError> {
        let now = Timestamp::now();
        let key = ring.key(&self.name)?.name().to_owned();
        let policy = ring.policy_mut(&self.name)?;
        let before = policy.clone();
        if self.revoke {
            policy.revoke(&self.grant, now)?;
        } else {
            policy.grant(self.grant.clone(), now)?;
        }
        let locks_out = [Action::Decrypt, Action::PutPolicy].into_iter().find(|&action| {
            before.allows_anyone(action, owner, now) && !policy.allows_anyone(action, owner, now)
        });
        match locks_out {
            Some(action) if !self.confirmed && !self.dry_run => {
                Err(PolicyError::LocksOut { key, action }.into())
            }
            _ => Ok(PolicyChanged { key, grants: policy.grants().to_vec(), locks_out }),
        }
    }

    /// Whether a user loses the use of the key.
    pub fn takes_away(&self) -> bool {
        !self.dry_run && (self.grant.effect == Effect::Deny) != self.revoke
    }

    /// What was done, as a sentence.
    pub fn done(&self, key: &str) -> String {
        let verb = if self.revoke { "Took back" } else { "Granted" };
        let message = format!("{verb} for the master key `{key}`: {}", grant_words(&self.grant));
        if self.dry_run { format!("Would say: {message} Nothing was changed.") } else { message }
    }
}

impl Policies {
    /// Of the keys that `may_see` lets through.
    pub fn of(ring: &KeyRing, owner: u32, may_see: impl Fn(&MasterKey) -> bool) -> Self {
        let policy = |key: &MasterKey| KeyPolicy {
            name: key.name().to_owned(),
            id: key.id(),
            grants: key.policy().grants().to_vec(),
        };
        Self { owner, keys: ring.keys().filter(|key| may_see(key)).map(policy).collect() }
    }
}
