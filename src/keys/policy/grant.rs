//! One line of a policy: who, may or may not, do what, until when, and where.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::ActionSet;
use super::subject::{Groups, Subject};

/// Bytes of a path that a grant may name: those of a path in Linux (limits.h, PATH_MAX).
const MAX_PATH: usize = 4096;

/// Whom a grant is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Principal {
    /// The user with this number.
    User(u32),
    /// Whoever has this group as their own or as one of their others.
    Group(u32),
    /// Every user, root and the owner among them.
    Everyone,
}

/// What a grant does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// A line of a key's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Whom it is for.
    pub principal: Principal,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// What.
    pub actions: ActionSet,
    /// From this time on it counts no more.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub until: Option<Timestamp>,
    /// A directory's or a file's path in the mount, at and below which alone it counts.
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

    /// Whether it counts at `now`.
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it counts for a file at one of `paths`, from the mount's root. What is not about a
    /// file has none.
    pub fn covers(&self, paths: &[&Path]) -> bool {
        match &self.under {
            None => true,
            Some(under) => paths.iter().any(|path| path.starts_with(under)),
        }
    }

    /// Whether it depends on nothing but who asks.
    pub fn is_unconditional(&self) -> bool {
        self.until.is_none() && self.under.is_none()
    }

    /// Whether it is the same line but for its actions and its end.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.principal == other.principal
            && self.effect == other.effect
            && self.under == other.under
    }

    /// What the code relies on: it does something, to a path that a file could have.
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
