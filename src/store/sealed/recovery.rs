//! After a crash: a header that says what the crash left, so that nothing needs its excuse.

use super::{Seal, SealedFile};
use crate::format::BlockSpan;
use crate::store::{Backing, FileError};

/// What [`SealedFile::recover`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovered {
    /// The header says what is there.
    Kept,
    /// A crash had taken the header: the file has its length, all of it a hole.
    Zeroed,
}

impl<B: Backing> SealedFile<B> {
    /// Before [`SealedFile::recover`]: reads the header, and finds out which blocks are holes.
    /// Others use the file meanwhile.
    ///
    /// # Errors
    /// [`FileError`] when the file can't be read, or is not what was sealed.
    pub fn prepare_recovery(&self) -> Result<(), FileError> {
        self.load(&mut self.meta(), None)?;
        self.narrow_all()
    }

    /// Brings the header up to date with the file as it is. The content stays.
    ///
    /// # Errors
    /// [`FileError`] as of [`SealedFile::prepare_recovery`], or when the header can't be written.
    pub fn recover(&self) -> Result<Recovered, FileError> {
        let recovered = {
            let _alone = self.ranges.exclusive(BlockSpan::ALL);
            let mut meta = self.meta();
            self.load(&mut meta, None)?;
            match &meta.seal {
                Seal::Lost => {
                    self.forget_lost(&mut meta)?;
                    Recovered::Zeroed
                }
                Seal::Open(_) if meta.is_header_stale(&self.context) => {
                    self.touch(&mut meta);
                    Recovered::Kept
                }
                Seal::Open(_) | Seal::Empty | Seal::Unread => Recovered::Kept,
            }
        };
        self.commit()?;
        Ok(recovered)
    }
}
