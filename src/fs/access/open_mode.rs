//! The mode that a file is opened in.

use crate::keys::policy::{Action, ActionSet};

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenMode {
    /// Reading.
    pub read: bool,
    /// Writing.
    pub write: bool,
    /// And it is emptied (`O_TRUNC`).
    pub empty: bool,
}

impl OpenMode {
    /// The file is not opened.
    pub const NONE: Self = Self { read: false, write: false, empty: false };
    /// Reading alone.
    pub const READ: Self = Self { read: true, write: false, empty: false };
    /// Writing alone.
    pub const WRITE: Self = Self { read: false, write: true, empty: false };
    /// Reading and writing.
    pub const READ_WRITE: Self = Self { read: true, write: true, empty: false };

    /// Whether the file must be writable for it.
    pub fn changes(self) -> bool {
        self.write || self.empty
    }

    /// The uses of the file's key that it needs.
    pub fn actions(self, has_content: bool) -> ActionSet {
        let partial = self.write && has_content && !self.empty;
        let mut actions = ActionSet::default();
        if self.read || partial {
            actions = actions.with(Action::Decrypt);
        }
        if self.changes() {
            actions = actions.with(Action::GenerateDataKey);
        }
        actions
    }
}
