//! The sealed file: its locks, what can be asked of it, and its syncs.

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use super::length::plain_len;
use super::state::{Event, FileState, HeaderState, SyncPoint};
use super::tracked::Tracked;
use crate::format::{BlockIndex, BlockSpan, FileId, NEXT_CAPACITY};
use crate::store::range_lock::RangeLocks;
use crate::store::{Backing, Context, FileError, KeyChoice, SyncScope};

/// An open file of the vault. All its users share one of these.
///
/// Lock order: a range of `ranges`, then `state`, then `tail` or `next_id`.
pub struct SealedFile<B> {
    pub(super) backing: Tracked<B>,
    pub(super) context: Arc<Context>,
    /// Held over backing reads and writes of the blocks in the range; all blocks for anything
    /// that shortens the file, block 0 for anything that writes the header.
    pub(super) ranges: RangeLocks,
    state: Mutex<FileState>,
    /// [`FileState::len`] as of the last unlock of `state`: a stat never waits for a disk.
    len: AtomicU64,
    /// The plaintext of the last block after a write that ended the file in it, so that the
    /// next append need not read it back. Taken and put only by the holder of that block's range.
    pub(super) tail: Mutex<Option<Tail>>,
    /// The id that the file's next life gets, once it was handed out.
    pub(super) next_id: Mutex<Option<FileId>>,
    /// Writes under way that have made the file longer; counted up while `state` is held.
    pub(super) growing: AtomicU32,
    /// The errno of a [`Backing::sync`] that failed in the midst of other work, until it is
    /// returned as the failure of a sync: the kernel reports a lost write once. 0 for none. Set
    /// while `state` is held.
    unreported: AtomicI32,
}

/// A block's plaintext, zeros behind its content.
pub(super) struct Tail {
    pub index: BlockIndex,
    pub plain: Box<[u8; NEXT_CAPACITY]>,
}

impl<B: Backing> SealedFile<B> {
    /// Opens a backing file of `size` bytes. The header is read with the first content.
    ///
    /// # Errors
    /// [`FileError::Integrity`] when no sealed file has that size; [`FileError::Io`].
    pub fn open(backing: B, size: u64, context: Arc<Context>) -> Result<Self, FileError> {
        let len = plain_len(&backing, size)?;
        Ok(Self {
            backing: Tracked::new(backing),
            context,
            ranges: RangeLocks::default(),
            state: Mutex::new(FileState::unread(size, len)),
            len: AtomicU64::new(len),
            tail: Mutex::new(None),
            next_id: Mutex::new(None),
            growing: AtomicU32::new(0),
            unreported: AtomicI32::new(0),
        })
    }

    /// Gives the backing file back.
    pub fn into_backing(self) -> B {
        self.backing.into_inner()
    }

    /// The backing file.
    pub fn backing(&self) -> &B {
        self.backing.get()
    }

    /// The plaintext length in bytes.
    pub fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Whether the file has no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The plaintext length without what a [`SealedFile::write_back`] could not write, and what lies
    /// behind that and is not durable: [`SealedFile::len`] where none failed.
    pub fn written_len(&self) -> u64 {
        self.state().sound_len()
    }

    /// Whether the header on disk may be out of date. Takes no lock: `true` while another thread holds
    /// it.
    pub fn may_need_commit(&self) -> bool {
        self.state.try_lock().is_none_or(|state| state.needs_commit)
    }

    /// Whether content or header was changed since the last [`SealedFile::sync`] that succeeded.
    pub fn is_unsynced(&self) -> bool {
        self.backing.is_unsynced()
    }

    /// Notes a change that was made before the file was opened, and that is not durable.
    pub fn mark_unsynced(&self) {
        self.backing.mark_unsynced();
    }

    /// Notes a change that makes the header on disk out of date.
    pub(super) fn mark_changed(&self, state: &mut FileState) {
        state.needs_commit = true;
        self.backing.mark_unsynced();
    }

    pub(super) fn state(&self) -> StateGuard<'_> {
        StateGuard { state: self.state.lock(), shown: &self.len }
    }

    /// Says under which master key the file gets its next data key. A file that has content keeps
    /// its own.
    pub fn choose_key(&self, key: KeyChoice) {
        self.state().next_key = Some(key);
    }

    /// Whether the file is empty and no key was chosen for its first content.
    pub fn needs_key(&self) -> bool {
        if !self.is_empty() {
            return false;
        }
        let state = self.state();
        matches!(state.header, HeaderState::Empty) && state.next_key.is_none()
    }

    /// The key chosen for the file's first content, if it is empty and one was.
    pub fn next_key(&self) -> Option<KeyChoice> {
        let state = self.state();
        state.next_key.filter(|_| matches!(state.header, HeaderState::Empty))
    }

    /// The id that the file's next life gets: with its first content, or when it is emptied and
    /// written anew.
    pub fn next_id(&self) -> FileId {
        *self.next_id.lock().get_or_insert_with(FileId::random)
    }

    /// Makes the file durable, as far as `scope` says, after the header was committed.
    pub(super) fn sync_committed(&self, scope: SyncScope) -> Result<(), FileError> {
        let point = {
            let state = self.state();
            let idle = self.growing.load(Ordering::Relaxed) == 0;
            SyncPoint {
                revision: state.revision,
                blocks: idle.then(|| BlockSpan::of_len(state.written).end.0),
                len: state.written,
                has_own_header: state.has_header_of(&self.context),
            }
        };
        self.backing.begin_sync();
        let synced = self.backing.sync(scope);
        // Work that syncs holds `state` until it has noted its failure.
        let mut state = self.state();
        let unreported = self.take_unreported();
        if let Err(error) = synced.and(unreported) {
            self.note_failed_sync(&mut state);
            return Err(error.into());
        }
        state.note_synced(&point);
        Ok(())
    }

    /// Returns, once, the failure of a sync in the midst of other work that no
    /// [`SealedFile::sync`] has returned.
    ///
    /// # Errors
    /// That failure.
    pub fn take_unreported(&self) -> io::Result<()> {
        match self.unreported.swap(0, Ordering::Relaxed) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// A sync in the midst of other work, which must not go on before it.
    pub(super) fn sync_before(&self, state: &mut FileState) -> io::Result<()> {
        self.backing.sync(SyncScope::Content).inspect_err(|error| {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            self.unreported.store(errno, Ordering::Relaxed);
            self.note_failed_sync(state);
        })
    }

    fn note_failed_sync(&self, state: &mut FileState) {
        state.on(Event::SyncFailed);
        self.backing.mark_unsynced();
    }
}

/// [`FileState`], locked. Its drop publishes the length to readers that don't take the lock.
pub(super) struct StateGuard<'a> {
    state: MutexGuard<'a, FileState>,
    shown: &'a AtomicU64,
}

impl Deref for StateGuard<'_> {
    type Target = FileState;

    fn deref(&self) -> &FileState {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut FileState {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        self.shown.store(self.state.len, Ordering::Release);
    }
}
