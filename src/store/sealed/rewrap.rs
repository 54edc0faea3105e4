//! Which master key wraps a file's data key, and bringing it to a newer one.

use super::{HeaderOnDisk, Meta, Seal, SealedFile};
use crate::format::{BadHeader, BlockSpan, HEADER_LEN, Header, MasterKeyId};
use crate::store::{Backing, FileError, Identity, IntegrityError, WrappedBy};

type HeaderBytes = [u8; HEADER_LEN];

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

    /// Which version of which master key wraps the data key, as the header says without being
    /// authenticated; `None` where there is no content, so no key.
    ///
    /// # Errors
    /// [`FileError`] when there is no header of this vault, or it can't be read.
    pub fn wrapped_by(&self) -> Result<Option<WrappedBy>, FileError> {
        Ok(self.identity()?.map(|identity| identity.by))
    }

    /// Which life of which file it is too, as the header says without being authenticated.
    ///
    /// # Errors
    /// As [`SealedFile::wrapped_by`].
    pub fn identity(&self) -> Result<Option<Identity>, FileError> {
        Ok(self.peek(&self.meta())?.map(|(identity, _)| identity))
    }

    fn rewrap_or_try(&self, to: Option<MasterKeyId>, write: bool) -> Result<Rewrapped, FileError> {
        // All of the file, though only the header is written: a write elsewhere would get its
        // modification time taken back.
        let _alone = self.ranges.exclusive(BlockSpan::ALL);
        let mut meta = self.meta();
        let Some((identity, bytes)) = self.peek(&meta)? else { return Ok(Rewrapped::Empty) };
        if self.context.is_newest(identity.by, to)? {
            return Ok(Rewrapped::AlreadyNew);
        }
        self.load(&mut meta, bytes.as_ref().map(|bytes| &bytes[..]))?;
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

    /// What the header says, and the header where it had to be read for that.
    fn peek(&self, meta: &Meta) -> Result<Option<(Identity, Option<HeaderBytes>)>, FileError> {
        let identity = |header: &Header| Identity {
            file: header.file_id,
            by: (header.master_key, header.version),
        };
        match &meta.seal {
            Seal::Empty | Seal::Lost => Ok(None),
            Seal::Open(open) => Ok(Some((identity(&open.header.fields), None))),
            Seal::Unread => {
                let mut bytes = [0; HEADER_LEN];
                if self.backing.read_at(&mut bytes, 0)? < HEADER_LEN {
                    return Err(IntegrityError::Vanished.into());
                }
                match self.context.parse_header(&bytes) {
                    Ok(header) => Ok(Some((identity(&header), Some(bytes)))),
                    // A crash left no header: there is no key either.
                    Err(FileError::Integrity(IntegrityError::Header(BadHeader::Blank)))
                        if self.context.epochs().any_crashed() =>
                    {
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }
}
