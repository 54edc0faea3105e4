//! What the headers of files say that were opened lately, so that to record another open of one
//! takes no reading.

use std::sync::LazyLock;

use parking_lot::Mutex;

use crate::fs::Inode;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::store::{Context, FileError, Identity};

/// Files that are remembered at most: half a megabyte.
const SLOTS: usize = 8192;

/// The identities of files that were opened lately. There is room for them from the first one on.
#[derive(Debug)]
pub struct Identities(LazyLock<Box<[Mutex<Option<Known>>]>>);

#[derive(Debug)]
struct Known {
    inode: Inode,
    /// By [`Context::identity_changes`].
    changes: u64,
    identity: Identity,
}

impl Default for Identities {
    fn default() -> Self {
        Self(LazyLock::new(|| (0..SLOTS).map(|_| Mutex::default()).collect()))
    }
}

impl Identities {
    /// The identity of an open file; `None` where there is no content, so no key.
    ///
    /// # Errors
    /// As [`SealedFile::identity`](crate::store::SealedFile::identity).
    pub fn of(&self, file: &OpenFile, context: &Context) -> Result<Option<Identity>, FileError> {
        if file.is_empty() {
            return Ok(None);
        }
        let inode = file.inode();
        // After the length: a file whose number another had has content only after a change.
        let changes = context.identity_changes();
        let slot = &self.0[inode.0 as usize % SLOTS];
        let is_it = |known: &&Known| known.inode == inode && known.changes == changes;
        if let Some(known) = slot.lock().as_ref().filter(is_it) {
            return Ok(Some(known.identity));
        }
        let identity = file.identity()?;
        *slot.lock() = identity.map(|identity| Known { inode, changes, identity });
        Ok(identity)
    }
}
