//! Finding names, and forgetting inodes.

use std::ffi::OsStr;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::at_path::AtPath;
use super::nodes::Forgotten;
use crate::fs::{Attr, Fs, FsError, Inode};

/// A name that was found, or made.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// What it names.
    pub attr: Attr,
    /// Tells this file from an earlier one of the same number.
    pub generation: u32,
}

impl Fs {
    /// Finds `name` in `parent`. The inode is remembered until [`Fs::forget`].
    ///
    /// # Errors
    /// [`FsError::NotFound`]; [`FsError::Backing`] with the error of statx(2).
    pub fn lookup(&self, parent: Inode, name: &OsStr) -> Result<Entry, FsError> {
        let at_path = match self.at_path(parent, name) {
            Err(FsError::Reserved) => return Err(FsError::NotFound),
            at_path => at_path?,
        };
        let _held = self.lock_name(parent, &at_path);
        self.entry(parent, &at_path)
    }

    /// Takes back `lookups` of an inode.
    pub fn forget(&self, inode: Inode, lookups: u64) {
        self.nodes.forget(inode, lookups, |Forgotten { inode, kind, pin }| {
            if kind == FileType::Directory {
                self.assignments.forget(inode);
            }
            if let Some(pin) = pin {
                self.reaper.drop_later(pin);
            }
        });
    }

    /// Remembers what lies at `at_path` in `parent`, and shows it. The caller holds the name.
    pub(in crate::fs) fn entry(&self, parent: Inode, at_path: &AtPath) -> Result<Entry, FsError> {
        let (stat, generation) = self.stat(at_path).map_err(not_found)?;
        let attr = self.attr(at_path, &stat)?;
        let generation = self.nodes.remember(&attr, generation, self.link_to(parent, at_path));
        Ok(Entry { attr, generation })
    }
}

fn not_found(errno: Errno) -> FsError {
    match errno {
        Errno::NOENT => FsError::NotFound,
        errno => errno.into(),
    }
}
