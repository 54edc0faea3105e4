//! Which master key wraps a file's data key, and bringing it to a newer one.

use super::{HeaderOnDisk, Meta, Seal, SealedFile};
use crate::format::{BlockSpan, HEADER_LEN, Header, MasterKeyId};
use crate::store::{Backing, FileError, Identity, IntegrityError, WrappedBy};

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
    /// Wraps the data key with the newest version of the master key `to`, or of its own where
    /// none is named: one header write.
    ///
    /// # Errors
    /// [`FileError`] when the header can't be opened, its key not be used, or not be written.
    pub fn rewrap(&self, to: Option<MasterKeyId>) -> Result<Rewrapped, FileError> {
        self.rewrap_or_try(to, true)
    }

    /// What [`SealedFile::rewrap`] would do. Nothing is written.
    ///
    /// # Errors
    /// As [`SealedFile::rewrap`], but those of writing.
    pub fn try_rewrap(&self, to: Option<MasterKeyId>) -> Result<Rewrapped, FileError> {
        self.rewrap_or_try(to, false)
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
        self.authenticated(&mut self.meta())
    }

    fn rewrap_or_try(&self, to: Option<MasterKeyId>, write: bool) -> Result<Rewrapped, FileError> {
        // All of the file, though only the header is written: a write elsewhere would get its
        // modification time taken back.
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        let mut meta = self.meta();
        let identity = self.authenticated(&mut meta)?;
        let Some(identity) = identity else { return Ok(Rewrapped::Empty) };
        if self.context.is_newest(identity.by, to)? {
            return Ok(Rewrapped::AlreadyNew);
        }
        // Of one whose master key is out of use that is all there is to know.
        self.load(&mut meta, None)?;
        let Seal::Open(open) = &mut meta.seal else { return Ok(Rewrapped::Empty) };
        let fields = self.context.rewrap(&open.header.fields, to)?;
        if write {
            let rewrapped = HeaderOnDisk::new(fields, &open.keys, open.header.gaps);
            let written = self.backing.write_unseen(&rewrapped.bytes, 0);
            // A failure does not say which of the two headers is there.
            self.context.note_identity_change();
            written?;
            open.header = rewrapped;
        }
        Ok(Rewrapped::Done)
    }

    /// What the header says. It counts whether or not its master key may be used now.
    fn authenticated(&self, meta: &mut Meta) -> Result<Option<Identity>, FileError> {
        let identity = |header: &Header| Identity {
            file: header.file_id,
            by: (header.master_key, header.version),
        };
        if let Seal::Unread = &meta.seal {
            let mut bytes = [0; HEADER_LEN];
            if self.backing.read_at(&mut bytes, 0)? < HEADER_LEN {
                return Err(IntegrityError::Vanished.into());
            }
            match self.load(meta, Some(&bytes)) {
                Err(FileError::Key(_)) => {
                    return Ok(Some(identity(&self.context.authenticate(&bytes)?)));
                }
                loaded => loaded?,
            }
        }
        Ok(match &meta.seal {
            Seal::Open(open) => Some(identity(&open.header.fields)),
            Seal::Empty | Seal::Lost | Seal::Unread => None,
        })
    }
}
