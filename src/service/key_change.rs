//! What can be done to a master key alone, as data: it goes to the daemon of a mounted vault, or
//! is done here, with the same result.

use serde::{Deserialize, Serialize};

use crate::keys::{KeyDescription, KeyError, KeyRing, Timestamp, policy};

/// What a new version means for the backups there are.
const BACK_UP: &str =
    "Back up the keys again: older backups do not open what is written from now on.";

/// A change of one master key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key's name or id.
    pub name: String,
    /// What becomes of it.
    pub action: Action,
    /// Only says what it would be like.
    pub dry_run: bool,
}

/// What becomes of a master key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is made.
    Create {
        /// Its rotation period in days, 0 for never.
        rotate_every: u32,
    },
    /// It gets a version, which wraps from now on.
    Rotate {
        /// Its rotation period in days from now on, 0 for never.
        rotate_every: Option<u32>,
    },
    /// It may be used again.
    Enable,
    /// It may not be used.
    Disable,
    /// It may not be used, and goes when its time is up.
    ScheduleDeletion {
        /// How long that is.
        days: u32,
    },
    /// It does not go.
    CancelDeletion,
    /// It goes, now that its time is up.
    Destroy,
}

impl KeyChange {
    /// Does it to a ring; returns the key as it is then.
    ///
    /// # Errors
    /// [`KeyError`] where the key's state does not allow it.
    pub fn apply(&self, ring: &mut KeyRing) -> Result<KeyDescription, KeyError> {
        let name = &self.name;
        match self.action {
            Action::Create { rotate_every } => {
                ring.create_key(name)?;
                ring.set_rotation(name, rotate_every)?;
            }
            Action::Rotate { rotate_every } => {
                ring.rotate(name)?;
                rotate_every.map_or(Ok(()), |days| ring.set_rotation(name, days))?;
            }
            Action::Enable => ring.enable(name)?,
            Action::Disable => ring.disable(name)?,
            Action::ScheduleDeletion { days } => {
                ring.schedule_deletion(name, days)?;
            }
            Action::CancelDeletion => ring.cancel_deletion(name)?,
            Action::Destroy => ring.destroy(name, Timestamp::now())?,
        }
        ring.describe_key(name)
    }

    /// The use of the key that its policy is asked about.
    pub fn policy_action(&self) -> policy::Action {
        match self.action {
            Action::Create { .. } => policy::Action::Create,
            Action::Rotate { .. } => policy::Action::Rotate,
            Action::Enable => policy::Action::Enable,
            Action::Disable => policy::Action::Disable,
            // Who may have it deleted may have that done.
            Action::ScheduleDeletion { .. } | Action::Destroy => policy::Action::ScheduleDeletion,
            Action::CancelDeletion => policy::Action::CancelDeletion,
        }
    }

    /// Whether files that could be read can't be afterwards.
    pub fn takes_away(&self) -> bool {
        match self.action {
            Action::Disable | Action::ScheduleDeletion { .. } => !self.dry_run,
            Action::Create { .. }
            | Action::Rotate { .. }
            | Action::Enable
            | Action::CancelDeletion
            | Action::Destroy => false,
        }
    }

    /// Whether what the key wraps is to be told: it opens no more then, for some time or for good.
    pub fn ends_use(&self) -> bool {
        matches!(self.action, Action::ScheduleDeletion { .. } | Action::Destroy)
    }

    /// What that means for all that the key wraps, as a sentence.
    pub fn what_ends(&self, wrapped: &str) -> String {
        match (self.action, self.dry_run) {
            (Action::Destroy, false) => format!("It wrapped the keys of {wrapped}."),
            (Action::Destroy, true) => format!("It wraps the keys of {wrapped}."),
            _ => format!(
                "It wraps the keys of {wrapped}: nothing of that can be opened until the key is kept \
                 and enabled again."
            ),
        }
    }

    /// What was done, as a sentence.
    pub fn done(&self, key: &KeyDescription) -> String {
        let name = &key.name;
        let message = match self.action {
            Action::Create { .. } => format!(
                "Made the master key `{name}`. `atrest key assign` gives it to a directory. {BACK_UP}"
            ),
            Action::Rotate { .. } => format!(
                "The master key `{name}` is at version {} now. \
                 `atrest key rewrap` brings the files there are to it. {BACK_UP}",
                key.current_version
            ),
            Action::Enable => format!("The master key `{name}` may be used."),
            Action::Disable => format!(
                "The master key `{name}` may not be used: files that it protects can't be opened \
                 until `atrest key enable`."
            ),
            Action::ScheduleDeletion { .. } => {
                let date = key.deletion_date.map(|date| date.to_string()).unwrap_or_default();
                format!(
                    "The master key `{name}` may not be used. After {date} `atrest key destroy` \
                     destroys it; `atrest key cancel-deletion` keeps it."
                )
            }
            Action::CancelDeletion => format!(
                "The master key `{name}` stays. It is disabled: `atrest key enable` gives its use back."
            ),
            Action::Destroy => format!(
                "The master key `{name}` is destroyed: what it wrapped can't be opened any more."
            ),
        };
        if self.dry_run { format!("Would say: {message} Nothing was changed.") } else { message }
    }
}
