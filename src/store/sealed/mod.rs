//! A sealed file: plaintext by byte range over a backing file of blocks.

mod commit;
mod holes;
mod length;
mod load;
mod narrow;
mod permitted;
mod read;
mod recovery;
mod resize;
mod rewrap;
mod tracked;
mod write;

pub use length::plain_len;
pub use recovery::Recovered;
pub use rewrap::Rewrapped;

use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use rustix::io::Errno;

use commit::HeaderOnDisk;
use length::cut_len;
use permitted::Permitted;
use tracked::Tracked;

use super::gaps::Gaps;
use super::range_lock::RangeLocks;
use super::{Backing, Context, FileError};
use crate::crypto::FileKeys;
use crate::format::{
    BadBlock, BlockContent, BlockIndex, BlockSpan, FileId, MasterKeyId, NEXT_CAPACITY, open_block,
    seal_block,
};

/// A file of the vault, as long as anybody has it open. All its users share one of these.
///
/// Lock order: a range of `ranges`, then `meta`, then `tail` or `next_id`.
pub struct SealedFile<B> {
    backing: Tracked<B>,
    context: Arc<Context>,
    /// Held over backing reads and writes of the blocks in the range; all blocks for anything
    /// that shortens the file, block 0 for anything that writes the header.
    ranges: RangeLocks,
    meta: Mutex<Meta>,
    /// [`Meta::len`] as it was when `meta` was last given back: a stat never waits for a disk.
    len: AtomicU64,
    /// The plaintext of the last block after a write that ended the file in it, so that the
    /// next append need not read it back. Taken and put only by who holds that block's range.
    tail: Mutex<Option<Tail>>,
    /// The id that the file's next life gets, where somebody was told of it.
    next_id: Mutex<Option<FileId>>,
    /// Writes under way that have made the file longer; counted up while `meta` is held.
    growing: AtomicU32,
    /// The errno of a [`Backing::sync`] that failed in the midst of other work, until it is
    /// returned as the failure of a sync: the kernel reports a lost write once. 0 for none. Set
    /// while `meta` is held.
    unreported: AtomicI32,
}

/// What is known of the file besides its content.
struct Meta {
    /// Plaintext bytes.
    len: u64,
    /// The length that is left when every write under way fails: at most `len`.
    written: u64,
    /// The length when the file was opened or last made durable: at most `written`. What lies
    /// below is never cut for a failed write.
    durable: u64,
    /// Where the first write begins of those that failed behind `durable` and left their length,
    /// until something is written there.
    lost_from: Option<u64>,
    seal: Seal,
    /// Blocks that may be holes: all others below the length are not zero, but for those that a
    /// write under way is to add.
    gaps: Gaps,
    /// Blocks before this one that are in no gap are durable.
    durable_blocks: u64,
    permitted: Permitted,
    /// Headers that were made durable for a punch or a cut.
    own_headers: u32,
    /// Whether [`SealedFile::narrow_once`] was done.
    looked_through: bool,
    /// Counts what a sync under way may miss.
    revision: u64,
    /// The last block may hold more than the length says, or something lie past it: a crash can
    /// leave that.
    stale_tail: bool,
    /// A sync has failed since the header was last written: it may be lost, and a mended tail too. Or
    /// the write of a header has failed, so that any of two may be there.
    sync_failed: bool,
    /// The master key chosen for the data key that an empty file gets with its first content;
    /// the inner `None` is the default one.
    next_key: Option<Option<MasterKeyId>>,
    /// Something was changed that the header on disk does not say yet.
    touched: bool,
}

/// Whether and how the file is sealed.
enum Seal {
    /// Empty: no header, no key.
    Empty,
    /// There is content, whose header was not read yet.
    Unread,
    /// A crash left a length and no header: nothing in it was ever fsynced, all reads as zeros.
    Lost,
    /// Read, or made, and authenticated.
    Open(Box<Open>),
}

struct Open {
    keys: Arc<BlockKeys>,
    /// The master keys, by [`Context::ring_changes`], among which this file's was seen enabled.
    seen_enabled: u64,
    /// As it stands on disk, or will with the first write of block 0.
    header: HeaderOnDisk,
}

/// What blocks of one life of the file are sealed with.
struct BlockKeys {
    file: FileId,
    keys: FileKeys,
}

impl BlockKeys {
    fn seal(&self, index: BlockIndex, plain: &[u8], block: &mut [u8]) {
        seal_block(&self.keys.content, &self.file, index, plain, block);
    }

    fn open(
        &self,
        index: BlockIndex,
        block: &[u8],
        plain: &mut [u8],
    ) -> Result<BlockContent, BadBlock> {
        open_block(&self.keys.content, &self.file, index, block, plain)
    }
}

/// A block's plaintext, zeros behind its content.
struct Tail {
    index: BlockIndex,
    plain: Box<[u8; NEXT_CAPACITY]>,
}

impl<B: Backing> SealedFile<B> {
    /// Opens a backing file of `size` bytes. The header is read with the first content.
    ///
    /// # Errors
    /// [`FileError::Integrity`] when no sealed file has that size; [`FileError::Io`].
    pub fn open(backing: B, size: u64, context: Arc<Context>) -> Result<Self, FileError> {
        let len = plain_len(&backing, size)?;
        let seal = if size == 0 { Seal::Empty } else { Seal::Unread };
        let meta = Meta { len, written: len, durable: len, seal, ..Meta::empty() };
        Ok(Self {
            backing: Tracked::new(backing),
            context,
            ranges: RangeLocks::default(),
            meta: Mutex::new(meta),
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

    /// The plaintext length without what a [`SealedFile::write_back`] could not write, and what lies
    /// behind that and is not durable: [`SealedFile::len`] where none failed.
    pub fn written_len(&self) -> u64 {
        self.meta().sound_len()
    }

    /// Whether the header on disk may not yet say all there is to say. Waits for no lock: while the
    /// file is at work it may not.
    pub fn may_owe_commit(&self) -> bool {
        self.meta.try_lock().is_none_or(|meta| meta.touched)
    }

    /// Whether content or header was changed since the last [`SealedFile::sync`] that succeeded.
    pub fn is_unsynced(&self) -> bool {
        self.backing.is_unsynced()
    }

    /// Notes a change that was made before the file was opened, and that is not durable.
    pub fn mark_unsynced(&self) {
        self.backing.mark_unsynced();
    }

    /// Notes a change that the header on disk does not say yet.
    fn touch(&self, meta: &mut Meta) {
        meta.touched = true;
        self.backing.mark_unsynced();
    }

    fn meta(&self) -> MetaGuard<'_> {
        MetaGuard { meta: self.meta.lock(), shown: &self.len }
    }

    /// Says under which master key the file gets its next data key, `None` for the default one.
    /// A file that has content keeps its own.
    pub fn choose_key(&self, key: Option<MasterKeyId>) {
        self.meta().next_key = Some(key);
    }

    /// Whether the file is empty and no key was chosen for its first content.
    pub fn needs_key(&self) -> bool {
        if !self.is_empty() {
            return false;
        }
        let meta = self.meta();
        matches!(meta.seal, Seal::Empty) && meta.next_key.is_none()
    }

    /// The key chosen for the file's first content, if it is empty and one was; the inner `None` is
    /// the default one.
    pub fn next_key(&self) -> Option<Option<MasterKeyId>> {
        let meta = self.meta();
        meta.next_key.filter(|_| matches!(meta.seal, Seal::Empty))
    }

    /// The id that the file's next life gets: with its first content, or when it is emptied and
    /// written anew.
    pub fn next_id(&self) -> FileId {
        *self.next_id.lock().get_or_insert_with(FileId::random)
    }

    /// Whether the file's master key may be used; true of a file without content.
    ///
    /// # Errors
    /// [`FileError::Key`]; what reading the header gives.
    pub fn require_key(&self) -> Result<(), FileError> {
        self.load(&mut self.meta(), None)
    }

    /// Whether the file has no content.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Makes content and length durable, and with `metadata` the times and modes too.
    ///
    /// # Errors
    /// [`FileError::Io`]: nothing can be said then of what is durable.
    pub fn sync(&self, metadata: bool) -> Result<(), FileError> {
        self.commit()?;
        let (of_this_mount, len, point) = {
            let meta = self.meta();
            (meta.header_is_of(&self.context), meta.written, self.sync_point(&meta))
        };
        self.backing.begin_sync();
        let synced = self.backing.sync(metadata);
        // Work that syncs holds `meta` until it has noted its failure.
        let mut meta = self.meta();
        let unreported = self.take_unreported();
        if let Err(error) = synced.and(unreported) {
            self.note_failed_sync(&mut meta);
            return Err(error.into());
        }
        meta.note_synced(&point, of_this_mount);
        // Who asked was told of what was lost before; the rest is now never cut.
        meta.durable = meta.durable.max(len.min(meta.written));
        meta.lost_from = meta.lost_from.filter(|&lost| lost > meta.durable);
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

    /// Makes durable what must reach the disk before the work that follows.
    fn sync_first(&self, meta: &mut Meta) -> io::Result<()> {
        self.backing.sync(false).inspect_err(|error| {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            self.unreported.store(errno, Ordering::Relaxed);
            self.note_failed_sync(meta);
        })
    }

    fn note_failed_sync(&self, meta: &mut Meta) {
        (meta.permitted, meta.sync_failed) = (Permitted::nothing(), true);
        meta.revision += 1;
        self.backing.mark_unsynced();
    }
}

/// [`Meta`], held. Giving it back shows its length to those who don't wait for it.
struct MetaGuard<'a> {
    meta: MutexGuard<'a, Meta>,
    shown: &'a AtomicU64,
}

impl Deref for MetaGuard<'_> {
    type Target = Meta;

    fn deref(&self) -> &Meta {
        &self.meta
    }
}

impl DerefMut for MetaGuard<'_> {
    fn deref_mut(&mut self) -> &mut Meta {
        &mut self.meta
    }
}

impl Drop for MetaGuard<'_> {
    fn drop(&mut self) {
        self.shown.store(self.meta.len, Ordering::Release);
    }
}

impl Meta {
    /// The length up to which all is as it was written.
    fn sound_len(&self) -> u64 {
        self.lost_from.map_or(self.written, |lost| lost.max(self.durable).min(self.written))
    }

    fn may_be_hole(&self, index: BlockIndex) -> bool {
        self.gaps.contains(index)
    }

    /// The block behind the last one.
    fn end(&self) -> BlockIndex {
        BlockSpan::of_len(self.len).end
    }
}
