//! Copying between two open files.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use crate::fs::access::authorize::FileOperation;
use crate::fs::ops::change::Origin;
use crate::fs::{Fs, FsError, Inode, OpenMode, Subject};

/// The observer of a [`Fs::copy`], which can stop it.
pub trait CopyProgress {
    /// Some bytes were read. Returns whether to write them.
    fn begin_write(&self) -> bool;
    /// So many bytes more were written. Returns whether to go on.
    fn wrote(&self, len: u64) -> bool;
}

/// Bytes that [`Fs::copy`] moves at a time: at first, and after a chunk that was slow, the least,
/// since a caller that was killed waits while one is written; twice as many after each quick one.
const COPY_CHUNK: RangeInclusive<u64> = 64 * 1024..=1024 * 1024;

/// A chunk is quick that takes less.
const QUICK_CHUNK: Duration = Duration::from_millis(20);

impl Fs {
    /// Copies up to `len` bytes between two open files, from one key to the other, as long as `progress`
    /// lets it; returns how many, fewer where the source ends or something fails.
    ///
    /// # Errors
    /// As reading and writing, where nothing was copied.
    pub fn copy(
        &self,
        (from, from_offset): (Inode, u64),
        (to, to_offset): (Inode, u64),
        len: u64,
        subject: &Subject,
        progress: &impl CopyProgress,
    ) -> Result<u64, FsError> {
        let (source, target) = (self.opened(from)?, self.opened(to)?);
        self.authorize(FileOperation::CopySource, &source, OpenMode::READ, subject)?;
        self.authorize(FileOperation::CopyTarget, &target, OpenMode::WRITE, subject)?;
        if let Err(errno) = source.note_access() {
            log::debug!("inode {}: its time of access: {errno}", from.0);
        }
        let mut copied = 0;
        let mut failed = Ok(());
        let mut most = *COPY_CHUNK.start();
        while copied < len {
            let begun = Instant::now();
            let want = (len - copied).min(most) as usize;
            let chunk = source.read_with(from_offset + copied, want, <[u8]>::to_vec);
            let chunk = self.in_file(from, chunk);
            let done = chunk.and_then(|chunk| {
                if chunk.is_empty() || !progress.begin_write() {
                    return Ok(0);
                }
                if copied == 0 {
                    self.content_changed(to, subject)?;
                }
                let at = to_offset + copied;
                self.write_unsynced(subject.is_root(), to, at, &chunk, Origin::Program)?;
                Ok(chunk.len() as u64)
            });
            match done {
                Ok(0) => break,
                Ok(done) => {
                    copied += done;
                    if !progress.wrote(done) {
                        break;
                    }
                }
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
            most = if begun.elapsed() < QUICK_CHUNK {
                (most * 2).min(*COPY_CHUNK.end())
            } else {
                *COPY_CHUNK.start()
            };
        }
        if copied > 0 { Ok(copied) } else { failed.map(|()| 0) }
    }

    /// After a change of the content that the kernel does not check for privileges.
    pub(in crate::fs) fn content_changed(
        &self,
        inode: Inode,
        subject: &Subject,
    ) -> Result<(), FsError> {
        if subject.is_root() { Ok(()) } else { self.drop_privilege_bits(inode, subject) }
    }
}
