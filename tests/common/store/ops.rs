//! Operations on a file, and the same on a plain vector of bytes.

use atrest::store::{Backing, FileError, RewrapTarget, SealedFile, SyncScope};

/// One operation. What a write writes follows from its number in the sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Write {
        at: u64,
        len: usize,
    },
    Truncate(u64),
    Punch {
        at: u64,
        len: u64,
    },
    /// fallocate(2), with the length extended.
    Allocate {
        at: u64,
        len: u64,
    },
    /// fallocate(2) that keeps the length.
    Reserve {
        at: u64,
        len: u64,
    },
    /// Copies inside the file, by reading and writing.
    Copy {
        from: u64,
        to: u64,
        len: usize,
    },
    /// Brings the header on disk up to date, as the last release does.
    Commit,
    /// fsync(2).
    Sync,
    /// The key is rotated and the header brought to its newest version.
    Rewrap,
    /// The file is recovered, as after a crash.
    Recover,
    /// The last release, and another open.
    Reopen,
    /// The mount ends cleanly, and another begins.
    Remount,
}

impl Op {
    /// `len` bytes at `at`, as the write of this number writes them: none of them zero, and none
    /// as another write of the same sequence has it there.
    pub fn bytes(number: usize, at: u64, len: usize) -> Vec<u8> {
        let byte = |at: u64| (at * 7 + at / 255 + number as u64 * 101) % 255 + 1;
        (at..at + len as u64).map(|at| byte(at) as u8).collect()
    }

    /// Whether the operation can change what a reader finds.
    pub fn changes_content(&self) -> bool {
        match self {
            Self::Write { .. }
            | Self::Truncate(_)
            | Self::Punch { .. }
            | Self::Allocate { .. }
            | Self::Copy { .. } => true,
            Self::Reserve { .. }
            | Self::Commit
            | Self::Sync
            | Self::Rewrap
            | Self::Recover
            | Self::Reopen
            | Self::Remount => false,
        }
    }

    /// What the operation does to a file's content.
    pub fn apply(&self, number: usize, content: &mut Vec<u8>) {
        match *self {
            Self::Write { at, len } => overwrite(content, at, &Self::bytes(number, at, len)),
            Self::Truncate(len) => content.resize(len as usize, 0),
            Self::Punch { at, len } => {
                let end = content.len().min((at + len) as usize);
                if let Some(range) = content.get_mut(at as usize..end) {
                    range.fill(0);
                }
            }
            Self::Allocate { at, len } => {
                content.resize(content.len().max((at + len) as usize), 0);
            }
            Self::Copy { from, to, len } => {
                let end = content.len().min(from as usize + len);
                let copied = content.get(from as usize..end).unwrap_or_default().to_vec();
                overwrite(content, to, &copied);
            }
            Self::Reserve { .. }
            | Self::Commit
            | Self::Sync
            | Self::Rewrap
            | Self::Recover
            | Self::Reopen
            | Self::Remount => {}
        }
    }

    /// Does it to a file. Rotating, reopening and remounting are the caller's.
    pub fn perform<B: Backing>(
        &self,
        number: usize,
        file: &SealedFile<B>,
    ) -> Result<(), FileError> {
        match *self {
            Self::Write { at, len } => file.write(at, &Self::bytes(number, at, len)),
            Self::Truncate(len) => file.truncate(len),
            Self::Punch { at, len } => file.punch(at, len),
            Self::Allocate { at, len } => file.allocate(at, len, true),
            Self::Reserve { at, len } => file.allocate(at, len, false),
            Self::Copy { from, to, len } => {
                let copied = file.read_with(from, len, <[u8]>::to_vec)?;
                file.write(to, &copied)
            }
            Self::Commit | Self::Reopen | Self::Remount => file.commit(),
            Self::Sync => file.sync(SyncScope::Content),
            Self::Rewrap => file.rewrap(RewrapTarget::SameKey).map(|_| ()),
            Self::Recover => {
                file.prepare_recovery()?;
                file.recover().map(|_| ())
            }
        }
    }
}

fn overwrite(content: &mut Vec<u8>, at: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        let (from, to) = (at as usize, at as usize + bytes.len());
        content.resize(content.len().max(to), 0);
        content[from..to].copy_from_slice(bytes);
    }
}
