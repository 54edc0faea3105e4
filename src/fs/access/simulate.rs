//! The answer that a mount would give a subject, without an access.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::open_mode::OpenMode;
use crate::format::MasterKeyId;
use crate::fs::maintenance::walk::open_dir;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::{Fs, FsError};
use crate::keys::policy::{Action, Decision, Subject};
use crate::keys::{KeyState, Timestamp};

/// An access to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// To open the file for reading.
    Read,
    /// To open the file for writing, and not empty it.
    Write,
    /// To make the file, or to empty the one there is and write it anew.
    Create,
}

/// The decision of the master key's policy on each use that the operation makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it all may be.
    pub allowed: bool,
    /// The master key's name.
    pub key: String,
    /// Whether it is enabled, or what else.
    pub key_state: String,
    /// The uses, with what decides about each.
    pub uses: Vec<Use>,
}

/// A use of a master key, and its policy's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// The use.
    pub action: Action,
    /// What decides.
    #[serde(flatten)]
    pub decision: Decision,
}

impl Fs {
    /// What the keys' policies let `subject` do with the file at `path`, from the mount's root. Modes
    /// and owners of files are not looked at.
    ///
    /// # Errors
    /// ENOENT for reading or writing a file that does not exist, EISDIR for a directory;
    /// [`FsError::Key`] for a key that the key file does not have; [`FsError::Backing`] with the
    /// error of openat2(2).
    pub fn simulate(
        &self,
        path: &Path,
        operation: Operation,
        subject: &Subject,
    ) -> Result<Verdict, FsError> {
        let wanted = match operation {
            Operation::Read => OpenMode::READ,
            Operation::Write => OpenMode::WRITE,
            Operation::Create => OpenMode { empty: true, ..OpenMode::WRITE },
        };
        let (at_path, of_dir) = self.moves.follow(|| self.descend(path))?;
        let stat = match at_path.stat() {
            Err(Errno::NOENT) if operation == Operation::Create => None,
            stat => Some(stat?),
        };
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        if stat.as_ref().is_some_and(|stat| kind(stat) == FileType::Directory) {
            return Err(Errno::ISDIR.into());
        }
        let content = match stat.filter(|_| !wanted.empty) {
            Some(stat) => self.key_at(&at_path, &stat)?,
            None => None,
        };
        let ring = self.vault.context().ring();
        let key = match content.or(of_dir) {
            Some(id) => ring.key_by_id(&id)?,
            None => ring.default_key(),
        };
        let now = Timestamp::now();
        let ownership = self.ownership(subject.uid);
        let decide = |action| {
            let decision = key.policy().decide(subject, ownership, action, &[path], now);
            Use { action, decision }
        };
        let uses: Vec<_> = wanted.actions(content.is_some()).iter().map(decide).collect();
        // To read a file without content takes no key.
        let is_usable =
            key.state() == KeyState::Enabled || (content.is_none() && !wanted.changes());
        let allowed = is_usable && uses.iter().all(|used| used.decision.allowed);
        Ok(Verdict {
            allowed,
            key: key.name().to_owned(),
            key_state: key.state().word().to_owned(),
            uses,
        })
    }

    /// Where a path leads, by no symbolic link, and the key of files made there.
    fn descend(&self, path: &Path) -> Result<(AtPath, Option<MasterKeyId>), FsError> {
        let names = self.resolver.names();
        let mut dir = Arc::new(open_dir(self.vault_dir(), Path::new(""))?);
        let mut key = None;
        for name in path.parent().unwrap_or(Path::new("")) {
            dir =
                Arc::new(open_dir(std::os::fd::AsFd::as_fd(&dir), Path::new(&names.store(name)))?);
            key = self.own_key_of(&AtPath::new(Arc::clone(&dir), OsStr::new(".")))?.or(key);
        }
        let name = path.file_name().ok_or(Errno::ISDIR)?;
        Ok((AtPath::new(dir, &names.store(name)), key))
    }
}
