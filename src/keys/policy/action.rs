//! What a key can be used for: a closed list.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A use of a master key, or a change of it. The words are those of KMS key policies, in this
/// program's spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Action {
    /// Reading the content of a file under the key.
    Decrypt,
    /// Giving a file a data key under the key: making it, filling it, writing it anew.
    GenerateDataKey,
    /// Seeing the key, its versions, its policy, and the mount's status.
    Describe,
    /// Making another master key; asked of the default key.
    Create,
    /// Adding a version.
    Rotate,
    /// Bringing files to its newest version, from whichever key they have.
    Rewrap,
    /// Destroying an old version.
    Retire,
    /// Giving its use back.
    Enable,
    /// Refusing all its use.
    Disable,
    /// Having it destroyed later.
    ScheduleDeletion,
    /// Keeping it from that.
    CancelDeletion,
    /// Giving it to a directory.
    Assign,
    /// Changing its policy.
    PutPolicy,
    /// Reading the trail; asked of the default key.
    ReadTrail,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Decrypt,
        Self::GenerateDataKey,
        Self::Describe,
        Self::Create,
        Self::Rotate,
        Self::Rewrap,
        Self::Retire,
        Self::Enable,
        Self::Disable,
        Self::ScheduleDeletion,
        Self::CancelDeletion,
        Self::Assign,
        Self::PutPolicy,
        Self::ReadTrail,
    ];

    /// Its word on the command line and in the key file.
    pub fn word(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt",
            Self::GenerateDataKey => "generate-data-key",
            Self::Describe => "describe",
            Self::Create => "create",
            Self::Rotate => "rotate",
            Self::Rewrap => "rewrap",
            Self::Retire => "retire",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::ScheduleDeletion => "schedule-deletion",
            Self::CancelDeletion => "cancel-deletion",
            Self::Assign => "assign",
            Self::PutPolicy => "put-policy",
            Self::ReadTrail => "read-trail",
        }
    }

    /// The action of a word.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.word() == word)
    }
}

impl Serialize for Action {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

impl<'de> Deserialize<'de> for Action {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::of_word(&word).ok_or_else(|| D::Error::custom("not an action"))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A set of actions. In JSON a list of words, each once, in the order of [`Action::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ActionSet(u16);

impl ActionSet {
    /// Of these.
    pub const fn of(actions: &[Action]) -> Self {
        let (mut set, mut at) = (Self(0), 0);
        while at < actions.len() {
            set = set.with(actions[at]);
            at += 1;
        }
        set
    }

    /// With one more.
    pub const fn with(self, action: Action) -> Self {
        Self(self.0 | 1 << action as u8)
    }

    /// Whether `action` is one of them.
    pub fn has(self, action: Action) -> bool {
        self.0 & 1 << action as u8 != 0
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of either.
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those of both.
    pub fn common(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those that `other` has not.
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// One by one.
    pub fn iter(self) -> impl Iterator<Item = Action> {
        Action::ALL.into_iter().filter(move |action| self.has(*action))
    }

    /// As a number, for an atomic.
    pub fn bits(self) -> u16 {
        self.0
    }
}

impl fmt::Display for ActionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().enumerate().try_for_each(|(i, action)| {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{action}")
        })
    }
}

impl Serialize for ActionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for ActionSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let actions = Vec::<Action>::deserialize(deserializer)?;
        match actions.is_sorted_by(|a, b| a < b) {
            true => Ok(Self::of(&actions)),
            false => Err(D::Error::custom("actions out of order")),
        }
    }
}
