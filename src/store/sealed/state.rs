//! The state of an open file beside its content, and its transitions.
//!
//! [`HeaderState`] is one of four states. [`FileState::on`] is this table; an empty cell is an event
//! that changes nothing in that state.
//!
//! | event               | `Empty`   | `Unread`  | `Missing` | `Open`                  |
//! |---------------------|-----------|-----------|-----------|-------------------------|
//! | `HeaderRead`        |           | `Open`    |           |                         |
//! | `HeaderBlank`       |           | `Missing` |           |                         |
//! | `KeyMade`           | `Open`    | `Open`    | `Open`    |                         |
//! | `HeaderWritten`     |           |           |           | `Open`, with it         |
//! | `HeaderWriteFailed` |           |           |           | `Open`, `sync_failed`   |
//! | `Rewrapped`         |           |           |           | `Open`, with it         |
//! | `HeaderLost`        | `Missing` | `Missing` | `Missing` | `Missing`               |
//! | `Emptied`           | `Empty`   | `Empty`   | `Empty`   | `Empty`                 |
//! | `SyncFailed`        | and `sync_failed` | and `sync_failed` | and `sync_failed` | and `sync_failed` |
//!
//! `KeyMade` comes to a file that is `Empty`: a header is read before a key is made, and a file
//! whose header is missing is reset first.
//!
//! Three flags beside the state:
//!
//! | flag           | set by                                                  | cleared by |
//! |----------------|---------------------------------------------------------|------------|
//! | `needs_commit` | each change of the content, a header write that failed  | a commit   |
//! | `stale_tail`   | a header read after a crash, a write or a cut that was taken back or failed | the tail's repair, a cut to an earlier block, a new key |
//! | `sync_failed`  | a sync or a header write that failed                    | the next header write |

use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::header::{BlockKeys, HeaderOnDisk, OpenHeader};
use super::permitted::Permitted;
use crate::format::{BlockIndex, BlockSpan, HEADER_LEN, Header};
use crate::store::gaps::Gaps;
use crate::store::{Context, FileError, KeyChoice};

/// After so many headers that were made durable for a punch or a cut while the file was open,
/// the next one permits all of them.
pub(super) const MAX_DURABLE_HEADERS: u32 = 16;

/// The state of an open file beside its content.
pub(super) struct FileState {
    /// Plaintext bytes.
    pub len: u64,
    /// The length that is left when every write under way fails: at most `len`.
    pub written: u64,
    /// The length when the file was opened or last made durable: at most `written`. What lies
    /// below is never cut for a failed write.
    pub durable: u64,
    /// Where the first write begins of those that failed behind `durable` and left their length,
    /// until something is written there.
    pub lost_from: Option<u64>,
    pub header: HeaderState,
    /// Blocks that may be holes: all others below the length are not zero, but for those that a
    /// write under way is to add.
    pub gaps: Gaps,
    /// Blocks before this one that are in no gap are durable.
    pub durable_blocks: u64,
    pub permitted: Permitted,
    /// Headers that were made durable for a punch or a cut.
    pub durable_headers: u32,
    /// Whether the uncertain blocks were looked through before a header was written.
    pub narrowed: bool,
    /// Counts what a sync under way may miss.
    pub revision: u64,
    /// The last block may hold more than the length says, or something lie past it: a crash can
    /// leave that.
    pub stale_tail: bool,
    /// A sync has failed since the header was last written: it may be lost, and a repaired tail
    /// too. Or the write of a header has failed, so that any of two may be there.
    pub sync_failed: bool,
    /// The master key chosen for the data key that an empty file gets with its first content.
    pub next_key: Option<KeyChoice>,
    /// The header on disk is out of date.
    pub needs_commit: bool,
}

/// Whether the file has a header, and whether it was read.
pub(super) enum HeaderState {
    /// No content: no header, no key.
    Empty,
    /// There is content, whose header was not read yet.
    Unread,
    /// A crash left a length and no header: nothing in it was ever fsynced, all reads as zeros.
    Missing,
    /// Read, or made, and authenticated.
    Open(Box<OpenHeader>),
}

/// An event that changes the state of the header.
pub(super) enum Event {
    /// It was read and is authentic.
    HeaderRead(OpenHeader, CrashBounds),
    /// It is blank, as a crash can leave it.
    HeaderBlank,
    /// The file got a key, and the header that goes to the disk with block 0.
    KeyMade(OpenHeader),
    /// A header was written.
    HeaderWritten(HeaderOnDisk),
    /// The write of a header failed: the old one is on the disk, or this one.
    HeaderWriteFailed(HeaderOnDisk),
    /// A header was written that says the same but for what wraps the data key.
    Rewrapped(HeaderOnDisk),
    /// The header could not be written, and the file's length not be taken back.
    HeaderLost,
    /// The file has no content any more.
    Emptied,
    /// A sync of the backing file failed: any change since the last one may be lost.
    SyncFailed,
}

/// What the header and the record of mounts together say of the content.
pub(super) struct CrashBounds {
    pub stale_tail: bool,
    pub gaps: Gaps,
    pub durable_blocks: u64,
    pub permitted: Permitted,
}

/// Where a sync began.
pub(super) struct SyncPoint {
    pub revision: u64,
    /// The blocks that are durable when it succeeds; `None` while a write makes the file longer.
    pub blocks: Option<u64>,
    /// The length up to which it makes the content durable.
    pub len: u64,
    /// Whether the newest header was made by this mount.
    pub has_own_header: bool,
}

impl HeaderState {
    pub(super) fn open(&self) -> Option<&OpenHeader> {
        match self {
            Self::Open(open) => Some(open),
            Self::Empty | Self::Unread | Self::Missing => None,
        }
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Missing)
    }
}

impl FileState {
    /// Of a backing file of `size` bytes that holds `len` plaintext bytes.
    pub(super) fn unread(size: u64, len: u64) -> Self {
        let header = if size == 0 { HeaderState::Empty } else { HeaderState::Unread };
        Self { len, written: len, durable: len, header, ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            len: 0,
            written: 0,
            durable: 0,
            lost_from: None,
            header: HeaderState::Empty,
            gaps: Gaps::default(),
            durable_blocks: 0,
            permitted: Permitted::nothing(),
            durable_headers: 0,
            narrowed: false,
            revision: 0,
            stale_tail: false,
            sync_failed: false,
            next_key: None,
            needs_commit: false,
        }
    }

    /// The state of the file once it has become empty.
    pub(super) fn emptied(&self) -> Self {
        Self { revision: self.revision + 1, ..Self::empty() }
    }

    /// The table of states and events at the top of this file.
    pub(super) fn on(&mut self, event: Event) {
        use HeaderState::{Empty, Missing, Open, Unread};
        match (&mut self.header, event) {
            (Unread, Event::HeaderRead(open, bounds)) => {
                self.header = Open(Box::new(open));
                self.stale_tail = bounds.stale_tail;
                self.gaps = bounds.gaps;
                self.durable_blocks = bounds.durable_blocks;
                self.permitted = bounds.permitted;
            }
            (Unread, Event::HeaderBlank) => self.header = Missing,
            (Empty | Unread | Missing, Event::KeyMade(open)) => {
                self.header = Open(Box::new(open));
                self.stale_tail = false;
                self.permitted = Permitted::anything();
            }
            (Open(open), Event::HeaderWritten(header)) => {
                self.permitted.restrict(&header.fields);
                self.revision += 1;
                open.on_disk = header;
                self.sync_failed = false;
            }
            (Open(_), Event::HeaderWriteFailed(header)) => {
                self.permitted.restrict(&header.fields);
                self.revision += 1;
                (self.sync_failed, self.needs_commit) = (true, true);
            }
            (Open(open), Event::Rewrapped(header)) => open.on_disk = header,
            (Empty | Unread | Missing | Open(_), Event::HeaderLost) => self.header = Missing,
            (Empty | Unread | Missing | Open(_), Event::Emptied) => *self = self.emptied(),
            (Empty | Unread | Missing | Open(_), Event::SyncFailed) => {
                (self.permitted, self.sync_failed) = (Permitted::nothing(), true);
                self.revision += 1;
            }
            (Empty | Missing | Open(_), Event::HeaderRead(..) | Event::HeaderBlank)
            | (Open(_), Event::KeyMade(_))
            | (
                Empty | Unread | Missing,
                Event::HeaderWritten(_) | Event::HeaderWriteFailed(_) | Event::Rewrapped(_),
            ) => {}
        }
    }

    /// A header is about to be written: a crash can leave it from here on.
    pub(super) fn begin_header_write(&mut self, header: &HeaderOnDisk) {
        self.permitted.restrict(&header.fields);
        self.revision += 1;
    }

    /// The blocks of `span` were written, or not, and with them the `newer` header, if there is one.
    pub(super) fn end_write(
        &mut self,
        written: io::Result<()>,
        span: BlockSpan,
        newer: Option<HeaderOnDisk>,
    ) -> Result<(), FileError> {
        if let Some(header) = newer {
            self.end_header_write(&written, header);
        }
        written?;
        self.note_filled(span);
        Ok(())
    }

    /// The header was written, or not.
    pub(super) fn end_header_write(&mut self, written: &io::Result<()>, header: HeaderOnDisk) {
        self.on(match written {
            Ok(()) => Event::HeaderWritten(header),
            Err(_) => Event::HeaderWriteFailed(header),
        });
    }

    /// Puts the header at the front of block 0, and returns it if it is newer than the one on
    /// disk; does nothing for other blocks.
    pub(super) fn stamp(
        &mut self,
        first: BlockIndex,
        blocks: &mut [u8],
        context: &Context,
    ) -> Option<HeaderOnDisk> {
        let open = self.header.open()?;
        if first != BlockIndex(0) {
            return None;
        }
        let newer = self.newer_header(context);
        let header = newer.as_ref().unwrap_or(&open.on_disk);
        blocks[..HEADER_LEN].copy_from_slice(&header.bytes);
        if let Some(newer) = &newer {
            self.begin_header_write(newer);
        }
        newer
    }

    /// The header as the file now is.
    pub(super) fn new_header(&self, open: &OpenHeader, context: &Context) -> HeaderOnDisk {
        let fields = Header {
            holes: self.gaps.to_holes(self.durable_blocks),
            committed_len: self.len,
            epoch: context.epochs().current,
            ..open.on_disk.fields.clone()
        };
        HeaderOnDisk::new(fields, &open.keys, self.gaps.version())
    }

    /// Whether the header on disk is out of date.
    pub(super) fn is_header_stale(&self, context: &Context) -> bool {
        let Some(OpenHeader { on_disk, .. }) = self.header.open() else { return false };
        self.sync_failed
            || on_disk.fields.committed_len != self.len
            || on_disk.gaps != self.gaps.version()
            || context.epochs().crashed(on_disk.fields.epoch)
    }

    /// The header to write, or `None` when the one on disk is up to date.
    pub(super) fn newer_header(&self, context: &Context) -> Option<HeaderOnDisk> {
        let open = self.header.open()?;
        self.is_header_stale(context).then(|| self.new_header(open, context))
    }

    /// Whether the newest header, which need not be durable, was made by this mount, and no sync
    /// has failed since.
    pub(super) fn has_header_of(&self, context: &Context) -> bool {
        let open = self.header.open().filter(|_| !self.sync_failed);
        open.is_some_and(|open| open.on_disk.fields.epoch == context.epochs().current)
    }

    pub(super) fn committed_len(&self) -> u64 {
        self.header.open().map_or(0, |open| open.on_disk.fields.committed_len)
    }

    pub(super) fn has_keys(&self) -> bool {
        self.header.open().is_some()
    }

    pub(super) fn keys(&self) -> Option<Arc<BlockKeys>> {
        self.header.open().map(|open| Arc::clone(&open.keys))
    }

    /// The length up to which all is as it was written.
    pub(super) fn sound_len(&self) -> u64 {
        self.lost_from.map_or(self.written, |lost| lost.max(self.durable).min(self.written))
    }

    pub(super) fn may_be_hole(&self, index: BlockIndex) -> bool {
        self.gaps.contains(index)
    }

    /// The block behind the last one.
    pub(super) fn end(&self) -> BlockIndex {
        BlockSpan::of_len(self.len).end
    }

    pub(super) fn set_shorter(&mut self, len: u64) {
        self.len = len;
        self.written = self.written.min(len);
        self.durable = self.durable.min(len);
        self.lost_from = self.lost_from.filter(|&lost| lost <= len);
        let end = self.end();
        self.gaps.remove(BlockSpan { first: end, end: BlockSpan::ALL.end });
        self.durable_blocks = self.durable_blocks.min(end.0);
        self.revision += 1;
    }

    /// The blocks of `span` were written.
    pub(super) fn note_filled(&mut self, span: BlockSpan) {
        if let Some(first) = self.gaps.remove(span) {
            // A header no longer lists them, and they are not durable.
            self.durable_blocks = self.durable_blocks.min(first.0);
            self.revision += 1;
            // A commit since the write began lists them still.
            self.needs_commit = true;
        }
    }

    /// Notes that `range` was written.
    pub(super) fn note_sound(&mut self, range: Range<u64>) {
        self.written = self.written.max(range.end);
        if self.lost_from.is_some_and(|lost| range.contains(&lost)) {
            self.lost_from = Some(range.end).filter(|&end| end < self.len);
        }
    }

    /// Notes that `range` in the blocks `span` could not be written, in a file that was `old_len`
    /// bytes long. Blocks that were written before still have their content.
    pub(super) fn note_lost(&mut self, old_len: u64, span: BlockSpan, range: Range<u64>) {
        let grew = (range.end > old_len).then(|| range.start.max(old_len));
        let unwritten =
            |index: &BlockIndex| index.end() > self.durable && self.gaps.contains(*index);
        let gap = span.iter().find(unwritten);
        let filled = gap.map(|index| index.start().max(range.start));
        if let Some(lost) = grew.into_iter().chain(filled).min()
            && range.end > self.durable
        {
            let lost = lost.max(self.durable);
            self.lost_from = Some(self.lost_from.map_or(lost, |earlier| earlier.min(lost)));
        }
    }

    /// A sync that began at `point` has succeeded.
    pub(super) fn note_synced(&mut self, point: &SyncPoint) {
        if point.revision == self.revision {
            if let Some(blocks) = point.blocks
                && self.durable_headers < MAX_DURABLE_HEADERS
            {
                self.durable_blocks = self.durable_blocks.max(blocks).min(self.end().0);
            }
            if let (true, Some(open)) = (point.has_own_header, self.header.open()) {
                self.permitted = Permitted::by(&open.on_disk.fields);
            }
        }
        // Earlier losses were reported to the sync's caller; the rest is now never cut.
        self.durable = self.durable.max(point.len.min(self.written));
        self.lost_from = self.lost_from.filter(|&lost| lost > self.durable);
    }
}

#[cfg(test)]
mod tests {
    use super::HeaderState::{Empty, Missing, Open, Unread};
    use super::*;
    use crate::crypto::{FileKeys, Secret, wrap};
    use crate::format::{Epoch, FileId, Holes, KeyVersion, MasterKeyId, VaultId};

    fn header() -> OpenHeader {
        let file_id = FileId::random();
        let keys = FileKeys::derive(&Secret::random(), file_id.as_bytes());
        let keys = Arc::new(BlockKeys::new(file_id, keys));
        let fields = Header {
            file_id,
            vault_id: VaultId::random(),
            master_key: MasterKeyId::random(),
            version: KeyVersion(1),
            wrapped: wrap(&Secret::random(), b"", &Secret::random()),
            holes: Holes::default(),
            committed_len: 0,
            epoch: Epoch(1),
        };
        OpenHeader { on_disk: HeaderOnDisk::new(fields, &keys, 0), keys, seen_enabled: 0 }
    }

    fn bounds() -> CrashBounds {
        let (gaps, permitted) = (Gaps::default(), Permitted::nothing());
        CrashBounds { stale_tail: false, gaps, durable_blocks: 0, permitted }
    }

    fn initial(state: &HeaderState) -> char {
        match state {
            Empty => 'E',
            Unread => 'U',
            Missing => 'M',
            Open(_) => 'O',
        }
    }

    type Row = (fn() -> Event, &'static str);

    #[test]
    fn events_do_what_the_table_says() {
        let rows: [Row; 9] = [
            (|| Event::HeaderRead(header(), bounds()), "EOMO"),
            (|| Event::HeaderBlank, "EMMO"),
            (|| Event::KeyMade(header()), "OOOO"),
            (|| Event::HeaderWritten(header().on_disk), "EUMO"),
            (|| Event::HeaderWriteFailed(header().on_disk), "EUMO"),
            (|| Event::Rewrapped(header().on_disk), "EUMO"),
            (|| Event::HeaderLost, "MMMM"),
            (|| Event::Emptied, "EEEE"),
            (|| Event::SyncFailed, "EUMO"),
        ];
        for (row, (event, expected)) in rows.into_iter().enumerate() {
            let before = [Empty, Unread, Missing, Open(Box::new(header()))];
            let after = before.map(|header| {
                let mut state = FileState { header, ..FileState::empty() };
                state.on(event());
                initial(&state.header)
            });
            assert_eq!(String::from_iter(after), expected, "row {row} of the table");
        }
    }
}
