//! A grant: one line of a policy.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::ActionSet;
use super::subject::{Groups, Subject};

/// The longest path of a grant in bytes (limits.h, PATH_MAX).
const MAX_PATH: usize = 4096;

/// The users that a grant is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Principal {
    /// The user with this number.
    User(u32),
    /// The users with this primary or supplementary group.
    Group(u32),
    /// Every user, root and the owner included.
    Everyone,
}

/// The effect of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, and takes precedence over all grants that allow.
    Deny,
}

/// One line of a key's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The users that it is for.
    pub principal: Principal,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// The actions.
    pub actions: ActionSet,
    /// The time at which it expires.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// A path in the mount: the grant applies only at and below it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub under: Option<String>,
}

impl Grant {
    /// Whether it is for `subject`. Of a subject whose groups are not known, a grant for a group
    /// denies and does not allow.
    pub fn is_for(&self, subject: &Subject) -> bool {
        match self.principal {
            Principal::User(uid) => subject.uid == uid,
            Principal::Group(gid) => {
                let is_supplementary = match &subject.groups {
                    Groups::Known(groups) => groups.contains(&gid),
                    Groups::OfProcess | Groups::Unknown => self.effect == Effect::Deny,
                };
                subject.gid == gid || is_supplementary
            }
            Principal::Everyone => true,
        }
    }

    /// Whether it has not expired at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it applies to a file at one of `paths`, relative to the mount. An action on no file has
    /// no paths.
    pub fn covers(&self, paths: &[&Path]) -> bool {
        match &self.under {
            None => true,
            Some(under) => paths.iter().any(|path| path.starts_with(under)),
        }
    }

    /// Whether it depends on the subject alone.
    pub fn is_unconditional(&self) -> bool {
        self.until.is_none() && self.under.is_none()
    }

    /// Whether it differs in its actions and end at most.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.principal == other.principal
            && self.effect == other.effect
            && self.under == other.under
    }

    /// The invariants of a grant: it has an action, and its path is one that a file can have.
    pub(super) fn is_sound(&self) -> bool {
        let plain = |path: &str| {
            let names = path.split('/');
            path.len() <= MAX_PATH
                && !path.contains('\0')
                && names.into_iter().all(|name| !matches!(name, "" | "." | ".."))
        };
        !self.actions.is_empty() && self.under.as_deref().is_none_or(plain)
    }
}
