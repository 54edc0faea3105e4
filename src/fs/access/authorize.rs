//! The one question before the key of an open file is used: what the policy and the state of the
//! master key say, with the record of the answer in the trail.

use std::cell::OnceCell;
use std::path::PathBuf;

use super::open_mode::OpenMode;
use super::permission::{GENERATE, READ_WRITE};
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError, Subject};
use crate::keys::policy::ActionSet;
use crate::store::{Identity, KeyChoice};

/// The operation that an open file's key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileOperation {
    /// open(2).
    Open,
    /// truncate(2), by a name.
    Truncate,
    /// Reading for copy_file_range(2).
    CopySource,
    /// Writing for copy_file_range(2) what is read elsewhere.
    CopyTarget,
}

impl FileOperation {
    /// Its word in the trail.
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Truncate => "truncate",
            Self::CopySource | Self::CopyTarget => "copy_file_range",
        }
    }
}

/// A requested use of an open file's key. Values that several checks and the record need are
/// determined once, at first use.
pub struct KeyUse<'a> {
    pub(super) fs: &'a Fs,
    pub operation: FileOperation,
    pub file: &'a OpenFile,
    pub mode: OpenMode,
    pub subject: &'a Subject,
    is_emptying: OnceCell<bool>,
    pub(super) paths: OnceCell<Vec<PathBuf>>,
    /// The header's identity, once the check of the policy has read it.
    identity: OnceCell<Identity>,
}

impl Fs {
    /// Whether `subject` may do `operation` with a file that is opened as `mode`: by the policy of
    /// the file's master key, and by the key's state. A use is recorded in the trail, and so is a
    /// refusal.
    ///
    /// # Errors
    /// [`FsError::Denied`] by the policy; [`FsError::Key`] and [`FsError::File`] for a key that is
    /// out of use or a header that can't be read; [`FsError::Trail`] where the use can't be
    /// recorded.
    pub(in crate::fs) fn authorize(
        &self,
        operation: FileOperation,
        file: &OpenFile,
        mode: OpenMode,
        subject: &Subject,
    ) -> Result<(), FsError> {
        let key_use = KeyUse {
            fs: self,
            operation,
            file,
            mode,
            subject,
            is_emptying: OnceCell::new(),
            paths: OnceCell::new(),
            identity: OnceCell::new(),
        };
        let permitted = key_use.check_policy().and_then(|()| key_use.check_key_state());
        let is_recorded = || match operation {
            FileOperation::Open => false,
            FileOperation::Truncate => {
                self.trail().is_some()
                    && mode.empty
                    && self.is_truncate_of_recorded_open(file.inode(), subject)
            }
            // The opens of both files were recorded.
            FileOperation::CopySource | FileOperation::CopyTarget => true,
        };
        if permitted.is_ok() && is_recorded() {
            return Ok(());
        }
        self.record_use(&key_use, permitted)
    }
}

impl KeyUse<'_> {
    fn check_policy(&self) -> Result<(), FsError> {
        let is_copy_target = self.operation == FileOperation::CopyTarget;
        let most = if is_copy_target { GENERATE } else { READ_WRITE };
        if self.fs.is_unrestricted(self.subject.uid, most) {
            return Ok(());
        }
        if is_copy_target {
            let key = self.key_of_content()?;
            return self.require(GENERATE, key);
        }
        let has_content = !self.file.is_empty();
        let permitted = self.check_mode(self.mode, has_content);
        let may_be_emptied = has_content && self.mode.write && !self.mode.empty;
        match permitted {
            Err(FsError::Denied { .. }) if may_be_emptied && self.is_emptying() => {
                self.check_mode(OpenMode { empty: true, ..self.mode }, !self.file.is_empty())
            }
            permitted => permitted,
        }
    }

    fn check_mode(&self, mode: OpenMode, has_content: bool) -> Result<(), FsError> {
        let key = if has_content && !mode.empty {
            self.key_of_content()?
        } else {
            self.fs.key_of_new_content(self.file)?
        };
        self.require(mode.actions(has_content), key)
    }

    fn require(&self, actions: ActionSet, key: KeyChoice) -> Result<(), FsError> {
        self.fs.require(self.subject, actions, key, || self.paths())
    }

    /// Whether the master key may be used: that of the content, or where all content will be new
    /// that of the directory. To read a file without content needs none.
    fn check_key_state(&self) -> Result<(), FsError> {
        let context = self.fs.vault.context();
        // The header is read for it, so it is checked only while some key is out of use.
        if context.all_enabled() {
            return Ok(());
        }
        if !self.empties() {
            self.fs.in_file(self.file.inode(), self.file.require_key())?;
            if !self.mode.write || self.read_identity()?.is_some() {
                return Ok(());
            }
        }
        Ok(context.require_enabled(self.fs.key_of_new_content(self.file)?)?)
    }

    /// Whether the file is emptied: by the open itself, or by the truncate of the kernel that follows
    /// it.
    pub fn empties(&self) -> bool {
        self.mode.empty || (self.mode.write && !self.file.is_empty() && self.is_emptying())
    }

    fn is_emptying(&self) -> bool {
        *self.is_emptying.get_or_init(|| self.subject.is_emptying())
    }

    /// The key of the content, or the one that the first content will get.
    fn key_of_content(&self) -> Result<KeyChoice, FsError> {
        match self.read_identity()? {
            Some(Identity { by: (key, _), .. }) => Ok(KeyChoice::Named(key)),
            None => self.fs.key_of_new_content(self.file),
        }
    }

    /// The header's identity; `None` where there is no content.
    fn read_identity(&self) -> Result<Option<Identity>, FsError> {
        if let Some(known) = self.identity.get() {
            return Ok(Some(*known));
        }
        let identity = self.fs.in_file(self.file.inode(), self.file.identity())?;
        Ok(identity.map(|identity| *self.identity.get_or_init(|| identity)))
    }

    /// The same for the record, where the headers that were read lately are as good. A header that
    /// can't be read is reported to the reader of the file.
    pub fn identity(&self) -> Option<Identity> {
        let known = self.identity.get().copied();
        known.or_else(|| self.fs.identities.of(self.file, self.fs.vault.context()).ok().flatten())
    }

    /// The paths of the file in the mount, for the policy.
    fn paths(&self) -> Vec<PathBuf> {
        self.paths.get_or_init(|| self.fs.paths_of(self.file.inode())).clone()
    }
}
