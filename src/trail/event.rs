//! What is recorded.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::format::{FileId, KeyVersion, MasterKeyId};
use crate::keys::policy::{Action, Subject};
use crate::keys::{KeyError, MasterKey};

macro_rules! event_names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// What was done, in the words of KMS where it has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum EventName { $($(#[$doc])* $name),* }

        impl EventName {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Its word in the trail.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

event_names! {
    /// A file's key was opened, for reading or for writing in part.
    Decrypt,
    /// A file gets a new key: it is made, filled, or written anew.
    GenerateDataKey,
    /// A file's key was wrapped anew.
    ReEncrypt,
    /// A master key was made.
    CreateKey,
    /// A master key, its policy or the mount was looked at.
    DescribeKey,
    /// A master key got a version.
    RotateKey,
    /// A master key may be used again.
    EnableKey,
    /// A master key may not be used.
    DisableKey,
    /// A master key is to be destroyed.
    ScheduleKeyDeletion,
    /// It is not.
    CancelKeyDeletion,
    /// Its time was up, and it was destroyed.
    DeleteKey,
    /// An old version was destroyed.
    RetireKeyVersion,
    /// A directory got a master key.
    AssignKey,
    /// A policy was changed.
    PutKeyPolicy,
    /// All master keys were written to a backup.
    BackupKeyFile,
    /// The key file was made anew from one.
    RestoreKeyFile,
    /// Who can open the key file was changed.
    ChangeProtectors,
    /// The trail was read by way of the daemon.
    LookupEvents,
    /// The vault was mounted.
    Mount,
    /// It was unmounted.
    Unmount,
    /// A vault or a key file that was put back to an older state was accepted.
    AcceptRollback,
    /// What is wrong with the trail was looked into, and is told no more.
    AcknowledgeTrail,
    /// A file of the trail begins.
    TrailBegin,
    /// Events were lost while the trail could not be written.
    TrailGap,
}

impl EventName {
    /// The event of a word, whatever its case.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.word().eq_ignore_ascii_case(word))
    }

    /// The use of a key that a policy is asked about for it.
    pub fn of_action(action: Action) -> Self {
        match action {
            Action::Decrypt => Self::Decrypt,
            Action::GenerateDataKey => Self::GenerateDataKey,
            Action::Describe => Self::DescribeKey,
            Action::Create => Self::CreateKey,
            Action::Rotate => Self::RotateKey,
            Action::Rewrap => Self::ReEncrypt,
            Action::Retire => Self::RetireKeyVersion,
            Action::Enable => Self::EnableKey,
            Action::Disable => Self::DisableKey,
            Action::ScheduleDeletion => Self::ScheduleKeyDeletion,
            Action::CancelDeletion => Self::CancelKeyDeletion,
            Action::Assign => Self::AssignKey,
            Action::PutPolicy => Self::PutKeyPolicy,
            Action::ReadTrail => Self::LookupEvents,
        }
    }

    /// Whether it changes nothing.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::Decrypt | Self::DescribeKey | Self::LookupEvents)
    }
}

/// The master key that was used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedKey {
    /// Its id.
    pub id: MasterKeyId,
    /// Its name.
    pub name: String,
    /// The version, where it was one.
    pub version: Option<KeyVersion>,
}

impl UsedKey {
    /// A key, by the name that it has now.
    pub fn of(key: &MasterKey, version: Option<KeyVersion>) -> Self {
        Self { id: key.id(), name: key.name().to_owned(), version }
    }
}

/// What a file was opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

impl Purpose {
    /// Of what is to be read and written; `None` for neither.
    pub fn of(read: bool, write: bool) -> Option<Self> {
        match (read, write) {
            (true, false) => Some(Self::Read),
            (false, true) => Some(Self::Write),
            (true, true) => Some(Self::ReadWrite),
            (false, false) => None,
        }
    }

    /// Whether content could be read.
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }
}

/// With what it was asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// The file's path in the mount.
    pub path: Option<String>,
    /// By which operation of the filesystem, or command.
    pub operation: Option<&'static str>,
    /// What the file was opened for.
    pub purpose: Option<Purpose>,
    /// What else there is to say.
    pub details: Option<Value>,
}

impl Parameters {
    /// Of an operation on a path.
    pub fn of_file(operation: &'static str, path: PathBuf) -> Self {
        let path = path.into_os_string().into_string();
        let path = path.unwrap_or_else(|path| path.to_string_lossy().into_owned());
        Self { path: Some(path), operation: Some(operation), ..Self::default() }
    }
}

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The word that KMS has for it.
    pub code: &'static str,
    /// In a sentence.
    pub message: String,
}

impl Failed {
    /// The policy does not allow it.
    pub fn denied(message: String) -> Self {
        Self { code: "AccessDenied", message }
    }

    /// The wrapped key is not what was wrapped.
    pub fn forged(message: String) -> Self {
        Self { code: "InvalidCiphertextException", message }
    }

    /// Another reason.
    pub fn other(message: String) -> Self {
        Self { code: "InternalFailure", message }
    }
}

impl From<&KeyError> for Failed {
    fn from(error: &KeyError) -> Self {
        let code = match error {
            KeyError::Disabled(_) => "DisabledException",
            KeyError::PendingDeletion { .. } | KeyError::Destroyed(_) => "KMSInvalidStateException",
            KeyError::NoSuchKey(_) | KeyError::NoSuchKeyId(_) | KeyError::NoSuchVersion { .. } => {
                "NotFoundException"
            }
            KeyError::Forged { .. } => return Self::forged(error.to_string()),
            error if error.is_refusal() => "ValidationException",
            _ => return Self::other(error.to_string()),
        };
        Self { code, message: error.to_string() }
    }
}

/// One event, before it has its place in the trail.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What.
    pub name: EventName,
    /// On whose behalf.
    pub subject: Subject,
    /// With which master key.
    pub key: Option<UsedKey>,
    /// Of which file: part of the encryption context.
    pub file: Option<FileId>,
    /// With what.
    pub parameters: Parameters,
    /// Whether nothing could be changed by it.
    pub read_only: bool,
    /// Why it was not done, if it was not.
    pub failed: Option<Failed>,
}

impl Event {
    /// Something that was done, with no more to be said of it yet.
    pub fn new(name: EventName, subject: Subject) -> Self {
        Self {
            name,
            subject,
            key: None,
            file: None,
            parameters: Parameters::default(),
            read_only: name.is_read_only(),
            failed: None,
        }
    }
}
