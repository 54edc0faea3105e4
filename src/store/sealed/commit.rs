//! Bringing the header on disk up to date, and making the file durable.

use std::io;

use super::file::SealedFile;
use super::header::HeaderOnDisk;
use super::permitted::Permitted;
use super::state::{FileState, MAX_DURABLE_HEADERS};
use crate::format::{BlockIndex, BlockSpan};
use crate::store::{Backing, FileError, SyncScope};

impl<B: Backing> SealedFile<B> {
    /// Commits the header, and makes the file durable, as far as `scope` says.
    ///
    /// # Errors
    /// [`FileError::Io`]: any change since the last sync may be lost.
    pub fn sync(&self, scope: SyncScope) -> Result<(), FileError> {
        self.commit()?;
        self.sync_committed(scope)
    }

    /// Brings the header on disk up to date: length, holes, epoch. Leaves the times alone.
    ///
    /// # Errors
    /// [`FileError::Io`].
    pub fn commit(&self) -> Result<(), FileError> {
        if !self.state().needs_commit {
            return Ok(());
        }
        let mut all = false;
        let (_alone, mut state) = loop {
            let span = if all { BlockSpan::ALL } else { BlockSpan::one(BlockIndex(0)) };
            let held = self.ranges.exclusive(span);
            let state = self.state();
            if !state.needs_commit {
                return Ok(());
            }
            if all || !(state.stale_tail || state.header.is_missing()) {
                break (held, state);
            }
            all = true;
        };
        // The first write failed, and so did taking its length back: no header is there yet, and
        // only a crash excuses that.
        self.reset_headerless(&mut state)?;
        if state.stale_tail {
            // No later mount looks at the tail of a file whose header is of a clean one.
            match self.repair_tail(&mut state) {
                Ok(_) => state.stale_tail = false,
                // A damaged block stays one, and its reader gets the error.
                Err(FileError::Integrity(_)) => {}
                Err(error) => return Err(error),
            }
        }
        if state.is_header_stale(&self.context) {
            self.narrow_once(&mut state);
        }
        if let Some(header) = state.newer_header(&self.context) {
            self.write_header(&mut state, header)?;
        }
        state.needs_commit = false;
        Ok(())
    }

    /// Before the blocks of `span` are punched. They are in the file's gaps then.
    pub(super) fn permit_zeros(
        &self,
        state: &mut FileState,
        span: BlockSpan,
    ) -> Result<(), FileError> {
        let permitted = state.permitted.zeros(span);
        state.gaps.add(span);
        state.revision += 1;
        if permitted { Ok(()) } else { self.write_durable_header(state) }
    }

    /// Before the file is cut so that `end` is the block behind its last one.
    pub(super) fn permit_end(
        &self,
        state: &mut FileState,
        end: BlockIndex,
    ) -> Result<(), FileError> {
        state.durable_blocks = state.durable_blocks.min(end.0);
        if state.permitted.end(end) { Ok(()) } else { self.write_durable_header(state) }
    }

    /// Makes a header durable that permits what `state` says.
    fn write_durable_header(&self, state: &mut FileState) -> Result<(), FileError> {
        let Some(open) = state.header.open() else { return Ok(()) };
        if state.durable_headers >= MAX_DURABLE_HEADERS {
            state.durable_blocks = 0;
        }
        let header = state.new_header(open, &self.context);
        let permitted = Permitted::by(&header.fields);
        self.write_header(state, header)?;
        self.sync_before(state)?;
        state.permitted = permitted;
        state.durable_headers = state.durable_headers.saturating_add(1);
        Ok(())
    }

    /// Writes a header alone. The caller holds block 0.
    fn write_header(&self, state: &mut FileState, header: HeaderOnDisk) -> io::Result<()> {
        state.begin_header_write(&header);
        let written = self.backing.write_preserving_mtime(&header.bytes, 0);
        state.end_header_write(&written, header);
        written
    }
}
