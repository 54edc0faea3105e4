//! Reading the header.

use std::sync::Arc;

use super::file::SealedFile;
use super::header::{BlockKeys, HeaderOnDisk, OpenHeader};
use super::recovery::{explains_blank_header, inspect};
use super::state::{Event, FileState, HeaderState};
use crate::format::{HEADER_LEN, Header};
use crate::store::{Backing, FileError, Identity, IntegrityError, WrappedBy};

impl<B: Backing> SealedFile<B> {
    /// Whether the file's master key may be used; true of a file without content.
    ///
    /// # Errors
    /// [`FileError::Key`] when it may not; [`FileError::Integrity`], [`FileError::Io`] when the
    /// header can't be read.
    pub fn require_key(&self) -> Result<(), FileError> {
        self.load(&mut self.state(), None)
    }

    /// Which version of which master key wraps the data key, as the header says, which is
    /// authenticated; `None` where there is no content, so no key.
    ///
    /// # Errors
    /// [`FileError`] when there is no authentic header of this vault, or it can't be read.
    pub fn wrapped_by(&self) -> Result<Option<WrappedBy>, FileError> {
        Ok(self.identity()?.map(|identity| identity.by))
    }

    /// Which life of which file it is too.
    ///
    /// # Errors
    /// As [`SealedFile::wrapped_by`].
    pub fn identity(&self) -> Result<Option<Identity>, FileError> {
        self.identity_in(&mut self.state())
    }

    /// What the header says. It counts whether or not its master key may be used now.
    pub(super) fn identity_in(&self, state: &mut FileState) -> Result<Option<Identity>, FileError> {
        let identity = |header: &Header| Identity {
            file: header.file_id,
            by: (header.master_key, header.version),
        };
        if let HeaderState::Unread = &state.header {
            let bytes = self.read_header()?;
            match self.load(state, Some(&bytes)) {
                Err(FileError::Key(_)) => {
                    return Ok(Some(identity(&self.context.authenticate(&bytes)?)));
                }
                loaded => loaded?,
            }
        }
        Ok(state.header.open().map(|open| identity(&open.on_disk.fields)))
    }

    /// Reads and authenticates the header, if that was not done yet, and makes sure that the
    /// file's master key may be used now. `first` may be the file's first bytes where the caller
    /// has them.
    pub(super) fn load(
        &self,
        state: &mut FileState,
        first: Option<&[u8]>,
    ) -> Result<(), FileError> {
        match &mut state.header {
            HeaderState::Unread => self.load_header(state, first),
            HeaderState::Open(open) => {
                let changes = self.context.ring_changes();
                if open.seen_enabled != changes {
                    self.context.ring().require_enabled(&open.on_disk.fields.master_key)?;
                    open.seen_enabled = changes;
                }
                Ok(())
            }
            HeaderState::Empty | HeaderState::Missing => Ok(()),
        }
    }

    fn load_header(&self, state: &mut FileState, first: Option<&[u8]>) -> Result<(), FileError> {
        // Before the ring is used, so that a change meanwhile is looked at again.
        let seen_enabled = self.context.ring_changes();
        let bytes = match first.and_then(|first| first.first_chunk::<HEADER_LEN>()) {
            Some(first) => *first,
            None => self.read_header()?,
        };
        match self.context.open_header(&bytes) {
            Ok((fields, keys)) => {
                let bounds = inspect(&fields, state.len, self.context.epochs())?;
                let keys = Arc::new(BlockKeys::new(fields.file_id, keys));
                let on_disk = HeaderOnDisk { fields, bytes, gaps: bounds.gaps.version() };
                state.on(Event::HeaderRead(OpenHeader { keys, seen_enabled, on_disk }, bounds));
                Ok(())
            }
            Err(FileError::Integrity(IntegrityError::Header(bad)))
                if explains_blank_header(self.context.epochs(), bad) =>
            {
                log::warn!(
                    "a crash left a file without its header: it was never fsynced and reads as zeros"
                );
                state.on(Event::HeaderBlank);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn read_header(&self) -> Result<[u8; HEADER_LEN], FileError> {
        let mut bytes = [0; HEADER_LEN];
        if self.backing.read_at(&mut bytes, 0)? < HEADER_LEN {
            return Err(IntegrityError::Vanished.into());
        }
        Ok(bytes)
    }
}
