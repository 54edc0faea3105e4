//! Events: what the trail records.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::format::{FileId, KeyVersion, MasterKeyId};
use crate::keys::policy::{Action, Subject};
use crate::keys::{KeyError, MasterKey, RingError};

macro_rules! event_names {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// The kind of an event, with the name that KMS has for it, where it has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum EventName { $($(#[$doc])* $name),* }

        impl EventName {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name in the trail.
            pub fn word(self) -> &'static str {
                match self { $(Self::$name => stringify!($name)),* }
            }
        }
    };
}

event_names! {
    /// A file's data key was unwrapped, to read the file or to write a part of it.
    Decrypt,
    /// A file gets a new data key: it is created, filled or overwritten.
    GenerateDataKey,
    /// A file's data key was wrapped again.
    ReEncrypt,
    /// A master key was created.
    CreateKey,
    /// A master key, its policy or the status of the mount was shown.
    DescribeKey,
    /// A master key got a new version.
    RotateKey,
    /// A master key was enabled.
    EnableKey,
    /// A master key was disabled.
    DisableKey,
    /// The deletion of a master key was scheduled.
    ScheduleKeyDeletion,
    /// The deletion of a master key was cancelled.
    CancelKeyDeletion,
    /// The material of a master key was destroyed.
    DeleteKey,
    /// An old version was destroyed.
    RetireKeyVersion,
    /// A master key was assigned to a directory.
    AssignKey,
    /// A policy was changed.
    PutKeyPolicy,
    /// All master keys were written to a backup.
    BackupKeyFile,
    /// The key file was restored from a backup.
    RestoreKeyFile,
    /// The protectors of the key file were changed.
    ChangeProtectors,
    /// The trail was read through the daemon.
    LookupEvents,
    /// The vault was mounted.
    Mount,
    /// It was unmounted.
    Unmount,
    /// A rollback of the vault or the key file was accepted.
    AcceptRollback,
    /// Findings about the trail were acknowledged and are no longer reported.
    AcknowledgeTrail,
    /// A file of the trail begins.
    TrailBegin,
    /// Events were lost while the trail could not be written.
    TrailGap,
}

impl EventName {
    /// The event of a word, in any case.
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.word().eq_ignore_ascii_case(word))
    }

    /// The event of an action.
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

    /// Whether such an event changes nothing.
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
    /// The version, if one was used.
    pub version: Option<KeyVersion>,
}

impl UsedKey {
    /// A key under its present name.
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
    /// The purpose of an open mode; `None` for neither reading nor writing.
    pub fn of(read: bool, write: bool) -> Option<Self> {
        match (read, write) {
            (true, false) => Some(Self::Read),
            (false, true) => Some(Self::Write),
            (true, true) => Some(Self::ReadWrite),
            (false, false) => None,
        }
    }

    /// Whether content can be read.
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }
}

/// The parameters of a request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// The file's path in the mount.
    pub path: Option<String>,
    /// The operation of the filesystem, or the command.
    pub operation: Option<&'static str>,
    /// The purpose of an open.
    pub purpose: Option<Purpose>,
    /// Other details.
    pub details: Option<Value>,
}

impl Parameters {
    /// The parameters of an operation on a path.
    pub fn of_file(operation: &'static str, path: PathBuf) -> Self {
        let path = path.into_os_string().into_string();
        let path = path.unwrap_or_else(|path| path.to_string_lossy().into_owned());
        Self { path: Some(path), operation: Some(operation), ..Self::default() }
    }
}

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The error code of KMS.
    pub code: &'static str,
    /// The message.
    pub message: String,
}

impl Failed {
    /// A refusal by the policy.
    pub fn denied(message: String) -> Self {
        Self { code: "AccessDenied", message }
    }

    /// A wrapped key that does not authenticate.
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
            KeyError::Ring(RingError::Disabled(_)) => "DisabledException",
            KeyError::Ring(RingError::PendingDeletion { .. } | RingError::Destroyed(_)) => {
                "KMSInvalidStateException"
            }
            KeyError::Ring(
                RingError::NoSuchKey(_)
                | RingError::NoSuchKeyId(_)
                | RingError::NoSuchVersion { .. },
            ) => "NotFoundException",
            KeyError::Ring(RingError::Forged { .. }) => return Self::forged(error.to_string()),
            error if error.is_refusal() => "ValidationException",
            _ => return Self::other(error.to_string()),
        };
        Self { code, message: error.to_string() }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its kind.
    pub name: EventName,
    /// The user and process.
    pub subject: Subject,
    /// The master key.
    pub key: Option<UsedKey>,
    /// The file, a part of the encryption context.
    pub file: Option<FileId>,
    /// The parameters.
    pub parameters: Parameters,
    /// Whether it changed nothing.
    pub read_only: bool,
    /// The refusal or failure, if any.
    pub failed: Option<Failed>,
}

impl Event {
    /// A successful event without key, file or parameters.
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
