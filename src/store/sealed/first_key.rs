//! The key and the header that an empty file gets with its first content.

use std::io;
use std::sync::Arc;

use log::Level;

use super::file::SealedFile;
use super::header::{BlockKeys, HeaderOnDisk, OpenHeader};
use super::state::{Event, FileState};
use crate::format::{BLOCK_LEN, BlockIndex};
use crate::store::{Backing, FileError, KeyChoice, log_failure};

impl<B: Backing> SealedFile<B> {
    /// The file's keys, made now if it has none.
    pub(super) fn ensure_key(&self, state: &mut FileState) -> Result<Arc<BlockKeys>, FileError> {
        if let Some(keys) = state.keys() {
            return Ok(keys);
        }
        let seen_enabled = self.context.ring_changes();
        let file = self.next_id();
        let choice = state.next_key.unwrap_or(KeyChoice::Default);
        let (fields, keys) = self.context.new_file(file, choice)?;
        self.next_id.lock().take();
        let keys = Arc::new(BlockKeys::new(fields.file_id, keys));
        let on_disk = HeaderOnDisk::new(fields, &keys, state.gaps.version());
        let open = OpenHeader { keys: Arc::clone(&keys), seen_enabled, on_disk };
        state.on(Event::KeyMade(open));
        Ok(keys)
    }

    /// Writes block 0 with a header and no content. The caller holds it.
    pub(super) fn write_first_block(&self, state: &mut FileState) -> Result<(), FileError> {
        let Some(keys) = state.keys() else { return Ok(()) };
        let mut block = [0; BLOCK_LEN];
        keys.seal(BlockIndex(0), &[], &mut block);
        self.write_block(state, BlockIndex(0), &mut block)
    }

    /// Makes a file empty again that got its key for what then could not be written. The caller
    /// holds all blocks.
    pub(super) fn undo_first_key(&self, state: &mut FileState) {
        self.tail.lock().take();
        match self.backing.set_len(0) {
            Ok(()) => state.on(Event::Emptied),
            Err(error) => {
                log_longer(&error);
                state.on(Event::HeaderLost);
                self.context.note_identity_change();
            }
        }
    }
}

/// Logs that the length of a write that failed could not be taken back.
pub(super) fn log_longer(error: &io::Error) {
    let line = format_args!("a failed write left the file longer than it was: {error}");
    log_failure(Level::Error, line);
}
