//! How a name in the mount is stored in the vault.

use std::borrow::Cow;
use std::ffi::OsStr;

use super::NameMode;

/// The names of one vault.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    mode: NameMode,
}

impl Names {
    /// Names of this mode.
    pub fn new(mode: NameMode) -> Self {
        Self { mode }
    }

    /// The stored name of `name`.
    pub fn store<'a>(&self, name: &'a OsStr) -> Cow<'a, OsStr> {
        match self.mode {
            NameMode::Plain => Cow::Borrowed(name),
        }
    }

    /// The name that is stored as `stored`.
    pub fn open<'a>(&self, stored: &'a OsStr) -> Cow<'a, OsStr> {
        match self.mode {
            NameMode::Plain => Cow::Borrowed(stored),
        }
    }

    /// Bytes that a name may have, where a stored one may have `stored`.
    pub fn longest(&self, stored: u64) -> u64 {
        match self.mode {
            NameMode::Plain => stored,
        }
    }
}
