//! Bringing a file's data key under a newer version of a master key, or under another one.

use super::file::SealedFile;
use super::header::HeaderOnDisk;
use super::state::{Event, FileState};
use crate::format::BlockSpan;
use crate::store::{Backing, FileError, RewrapTarget};

/// What [`SealedFile::rewrap`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewrapped {
    /// The header was written anew.
    Done,
    /// The newest version wraps it already.
    AlreadyNew,
    /// There is no content, so no key.
    Empty,
}

impl<B: Backing> SealedFile<B> {
    /// Wraps the data key with the newest version of the master key of `to`: one header write.
    ///
    /// # Errors
    /// [`FileError`] when the header can't be opened, its key not be used, or not be written.
    pub fn rewrap(&self, to: RewrapTarget) -> Result<Rewrapped, FileError> {
        // All of the file, though only the header is written: a write elsewhere would get its
        // modification time taken back.
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        let mut state = self.state();
        let (found, header) = self.rewrapped(&mut state, to)?;
        let Some(header) = header else { return Ok(found) };
        let written = self.backing.write_preserving_mtime(&header.bytes, 0);
        // A failure does not say which of the two headers is there.
        self.context.note_identity_change();
        written?;
        state.on(Event::Rewrapped(header));
        Ok(found)
    }

    /// What [`SealedFile::rewrap`] would do. Nothing is written.
    ///
    /// # Errors
    /// As [`SealedFile::rewrap`], but those of writing.
    pub fn try_rewrap(&self, to: RewrapTarget) -> Result<Rewrapped, FileError> {
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        Ok(self.rewrapped(&mut self.state(), to)?.0)
    }

    /// The outcome, and the header with its newly wrapped data key where one is to be written.
    fn rewrapped(
        &self,
        state: &mut FileState,
        to: RewrapTarget,
    ) -> Result<(Rewrapped, Option<HeaderOnDisk>), FileError> {
        let identity = self.identity_in(state)?;
        let Some(identity) = identity else { return Ok((Rewrapped::Empty, None)) };
        if self.context.is_newest(identity.by, to)? {
            return Ok((Rewrapped::AlreadyNew, None));
        }
        // Fails for a master key that is out of use.
        self.load(state, None)?;
        let Some(open) = state.header.open() else { return Ok((Rewrapped::Empty, None)) };
        let fields = self.context.rewrap(&open.on_disk.fields, to)?;
        let header = HeaderOnDisk::new(fields, &open.keys, open.on_disk.gaps);
        Ok((Rewrapped::Done, Some(header)))
    }
}
