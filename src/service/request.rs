//! What can be asked of an open vault, by a client of its daemon or by a command that opens it itself.

use std::num::NonZeroU32;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::format::KeyVersion;
use crate::fs::{Operation, Progress};
use crate::keys::KeyFileMark;
use crate::keys::policy::Grant;
use crate::service::key_change::KeyChange;
use crate::trail::Filter;

/// What a daemon can be asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// How it is.
    Status,
    /// The master keys, as far as the client may see them.
    Keys,
    /// Their policies, as far as the client may see them.
    Policies,
    /// What the policies let somebody do with a file.
    Simulate {
        /// Their user.
        uid: u32,
        /// Their group.
        gid: u32,
        /// Their other groups.
        groups: Vec<u32>,
        /// The file's path in the mount.
        path: PathBuf,
        /// What.
        operation: Operation,
    },
    /// To change a master key.
    Change(KeyChange),
    /// To change a master key's policy.
    Policy(PolicyChange),
    /// To work on the keys of files.
    Work(FileWork),
    /// To record what the client is about to do with the key file itself, of which it has read this
    /// state.
    Note(Note, KeyFileMark),
    /// To take note of the state of the key file that the client has made of that.
    KeyFile(KeyFileMark),
    /// About the trail.
    Trail(TrailRequest),
    /// To check every block at or below a path in the mount.
    Verify {
        /// The path, empty for the whole vault.
        path: PathBuf,
    },
}

/// What a command does with the key file by itself, also while a daemon has the vault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Note {
    /// It writes all keys to a backup.
    Backup,
    /// It makes the key file from one.
    Restore,
    /// It adds a protector.
    AddProtector,
    /// It puts another in the place of this one.
    ChangeProtector(u32),
    /// It takes this one away.
    RemoveProtector(u32),
}

/// What a daemon can be asked about its trail.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrailRequest {
    /// To write what it has, and say where.
    Flush,
    /// For some of the lines that meet it.
    Lines(Filter),
    /// Who read a file.
    WhoRead(PathBuf),
    /// To record, for this reason, that what is wrong with it was looked into.
    Acknowledge(String),
    /// Whether the trail is whole, and has the line that was kept elsewhere.
    Verify(Option<String>),
}

impl Request {
    /// Whether it is work on every file, which takes as long as it takes.
    pub fn is_long(&self) -> bool {
        match self {
            Self::Status
            | Self::Keys
            | Self::Policies
            | Self::Simulate { .. }
            | Self::Change(_)
            | Self::Policy(_)
            | Self::Note(..)
            | Self::KeyFile(_) => false,
            Self::Work(_) | Self::Verify { .. } | Self::Trail(_) => true,
        }
    }
}

/// A change of a master key's policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// The key's name or id.
    pub name: String,
    /// The grant.
    pub grant: Grant,
    /// Whether it is taken back.
    pub revoke: bool,
    /// Only says what it would be like.
    pub dry_run: bool,
    /// Even if nobody could then use the key.
    pub confirmed: bool,
}

/// Work on the keys of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileWork {
    /// Every header comes to the newest version of its master key, or of another one.
    Rewrap {
        /// The other one.
        to: Option<String>,
        /// Header writes a second at most.
        rate: Option<NonZeroU32>,
        /// Only counts.
        dry_run: bool,
    },
    /// A version's material goes, once no file refers to it.
    Retire {
        /// The key's name or id.
        name: String,
        /// The version.
        version: KeyVersion,
        /// Only counts.
        dry_run: bool,
    },
    /// What a master key wraps is counted.
    Count {
        /// The key's name or id.
        name: String,
    },
    /// A directory gets a master key.
    Assign {
        /// The key's name or id.
        name: String,
        /// The directory's path in the mount, empty for the root.
        path: PathBuf,
    },
}

/// Is told how far work has come; `false` ends it.
pub type ProgressSink<'a> = &'a (dyn Fn(Progress) -> bool + Sync);
