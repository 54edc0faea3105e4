//! Appends lines to the trail: its last file, the change to the next one, and the checkpoint.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use super::chain::{Chain, Head, link_to_text};
use super::checkpoint::{Checkpoint, CheckpointStore, Durability, Gap, LastFile, Settings};
use super::directory::Directory;
use super::line::Line;
use super::resume::ResumePoint;
use super::{Event, EventName, TrailError};
use crate::crypto::{TrailKeys, scrubbed};
use crate::format::{Epoch, EpochSet, VaultId};
use crate::keys::policy::Subject;

/// What is needed to write a trail.
pub struct Start {
    /// The vault.
    pub vault_id: VaultId,
    /// The keys that authenticate the trail.
    pub keys: TrailKeys,
    /// The directory of the trail.
    pub directory: PathBuf,
    /// How it is kept.
    pub settings: Settings,
    /// The newest mount of the vault.
    pub epoch: Epoch,
    /// Mounts of which the trail needs no line.
    pub without_line: EpochSet,
    /// Where the vault keeps the checkpoint.
    pub checkpoints: Box<dyn CheckpointStore>,
}

/// An event and its time.
#[derive(Debug)]
pub(super) struct TimedEvent {
    pub time: Timestamp,
    pub event: Event,
}

impl TimedEvent {
    pub fn now(event: Event) -> Self {
        Self { time: Timestamp::now(), event }
    }
}

/// The end of a trail, where lines are appended. One process has it at a time.
pub(super) struct Writer {
    start: Start,
    directory: Directory,
    chain: Chain,
    checkpoint: Checkpoint,
    file: File,
    /// The trail is ahead of the checkpoint in the vault.
    checkpoint_due: bool,
    /// A failure to write the checkpoint was logged, and none succeeded since.
    warned: bool,
    buffer: Vec<u8>,
    /// The vault's id.
    vault_id: String,
    _lock: File,
}

impl Writer {
    /// Finds the end of the trail and appends to it, in a new file unless the last one ends as the
    /// checkpoint says. Also returns what is wrong with the trail; `verify` reports that in full.
    ///
    /// # Errors
    /// [`TrailError`] when it can't be written.
    pub fn open(start: Start) -> Result<(Self, Option<String>), TrailError> {
        let directory = Directory::make(&start.directory)?;
        let lock = directory.lock()?;
        let saved = Checkpoint::read(start.checkpoints.as_ref(), &start.keys);
        let (saved, mut trouble) = match saved {
            Ok(saved) => (saved, None),
            Err(error @ TrailError::Checkpoint) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let first = directory.files()?.first().copied();
        let was_elsewhere = saved.as_ref().is_some_and(|saved| saved.directory != directory.path());
        let end = match &saved {
            // The chain continues in this directory; the old files stay where they are.
            Some(saved) if was_elsewhere && first.is_none() => {
                ResumePoint { head: saved.head, open: None, trouble: None }
            }
            saved => ResumePoint::find(&directory, &start.keys, saved.as_ref())?,
        };
        // The trail does not know of the mount that begins.
        let before = Epoch(start.epoch.0.saturating_sub(1));
        trouble = trouble.or(end.trouble).or_else(|| {
            saved.as_ref().and_then(|saved| saved.rollback_message(before, &start.without_line))
        });
        let mut checkpoint = saved.unwrap_or_else(|| Checkpoint {
            first: first.unwrap_or(1),
            ..Checkpoint::new(&start.directory, start.settings, start.epoch)
        });
        if was_elsewhere && first.is_none() {
            checkpoint.first = end.head.sequence + 1;
        }
        checkpoint.directory = directory.path().to_owned();
        checkpoint.settings = start.settings;
        checkpoint.epoch = start.epoch;
        checkpoint.head = end.head;
        let chain = Chain::after(start.keys.line.clone(), end.head);
        // Trouble is recorded in a new file's first line, which the next checkpoint does not hide.
        let open = end.open.filter(|_| trouble.is_none());
        let is_new = open.is_none();
        let file = match open {
            Some(file) => file,
            None => directory.create(end.head.sequence + 1)?,
        };
        let mut writer = Self {
            vault_id: start.vault_id.to_string(),
            start,
            directory,
            chain,
            checkpoint,
            file,
            checkpoint_due: true,
            warned: false,
            buffer: Vec::new(),
            _lock: lock,
        };
        if is_new && let Err(error) = writer.begin_file(trouble.as_deref()) {
            let _ = writer.directory.remove(writer.checkpoint.file.first);
            return Err(error);
        }
        writer.record_gap();
        writer.write_checkpoint();
        Ok((writer, trouble))
    }

    /// Appends events and hands each line to `written`. On failure none of them was appended.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn append(
        &mut self,
        events: &[TimedEvent],
        mut written: impl FnMut(&Event, &str),
    ) -> Result<(), TrailError> {
        if self.checkpoint.file.len >= self.start.settings.file_len || self.is_removed() {
            self.next_file()?;
        }
        let mut chain = self.chain.clone();
        self.buffer.clear();
        let mut ends = Vec::with_capacity(events.len());
        scrubbed(|| {
            events.iter().try_for_each(|timed| {
                self.line(&mut chain, timed)?;
                ends.push(self.buffer.len());
                Ok::<_, TrailError>(())
            })
        })?;
        self.write()?;
        self.chain = chain;
        self.note_end();
        let mut begin = 0;
        for (timed, end) in events.iter().zip(ends) {
            let line = self.buffer.get(begin..end - 1).and_then(|line| str::from_utf8(line).ok());
            written(&timed.event, line.unwrap_or_default());
            begin = end;
        }
        Ok(())
    }

    /// Notes in the checkpoint that the trail could not be written at the end of this mount and that
    /// `lost` events are lost.
    pub fn note_gap(&mut self, lost: u64) {
        let before = self.checkpoint.gap.map_or(0, |gap| gap.lost);
        self.checkpoint.gap = Some(Gap { lost: before + lost, epoch: self.start.epoch });
        self.checkpoint_due = true;
    }

    /// Moves the gap from the checkpoint to a line of the trail, if that can be written.
    fn record_gap(&mut self) {
        let Some(Gap { lost, epoch }) = self.checkpoint.gap else { return };
        let mut event = Event::new(EventName::TrailGap, Subject::this_process());
        event.parameters.details = Some(json!({ "lost": lost, "epoch": epoch }));
        // On failure the checkpoint keeps the gap, and the next event reports the error.
        if self.append(&[TimedEvent::now(event)], |_, _| ()).is_ok() {
            self.checkpoint.gap = None;
        }
    }

    /// Makes all appended lines durable.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn sync(&mut self) -> Result<(), TrailError> {
        let synced = self.file.sync_data();
        synced.map_err(|source| TrailError::io("sync", &self.path(), source))
    }

    /// Writes the checkpoint, durably; returns whether it is up to date. A failure is logged once:
    /// the trail itself is whole without.
    pub fn write_checkpoint(&mut self) -> bool {
        self.put_checkpoint(Durability::Durable)
    }

    /// Writes the checkpoint if the trail is ahead of it, as [`Durability::Buffered`].
    pub fn refresh_checkpoint(&mut self) {
        if self.checkpoint_due {
            self.put_checkpoint(Durability::Buffered);
        }
    }

    fn put_checkpoint(&mut self, durability: Durability) -> bool {
        // A checkpoint that survives a crash of the machine must not name lines that do not.
        let synced = self.file.sync_data();
        let (store, keys) = (self.start.checkpoints.as_ref(), &self.start.keys);
        match synced.and_then(|()| self.checkpoint.write(store, keys, durability)) {
            Ok(()) => (self.checkpoint_due, self.warned) = (false, false),
            // A vault that is mounted read-only keeps its old checkpoint.
            Err(error) if self.warned || error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            Err(error) => {
                log::warn!("the vault does not know how far its trail has come: {error}");
                self.warned = true;
            }
        }
        !self.checkpoint_due
    }

    /// The last line.
    pub fn head(&self) -> Head {
        self.chain.head()
    }

    fn line(&mut self, chain: &mut Chain, timed: &TimedEvent) -> Result<(), TrailError> {
        let mut line = Line::of(&timed.event, timed.time, &self.vault_id);
        let appended = chain.append(&mut line, &mut self.buffer);
        appended.map_err(|error| TrailError::io("write", &self.path(), error))
    }

    /// Appends the buffer to the file, whole or not at all.
    fn write(&mut self) -> Result<(), TrailError> {
        let end = self.checkpoint.file.len;
        let written = self.file.write_all_at(&self.buffer, end);
        written.map_err(|source| {
            // Without ftruncate(2) a part of a line remains, which the next write overwrites.
            let _ = self.file.set_len(end);
            TrailError::io("write", &self.path(), source)
        })
    }

    /// Whether the file was unlinked: nobody reads what is appended to it.
    fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    fn note_end(&mut self) {
        self.checkpoint.file.len += self.buffer.len() as u64;
        self.checkpoint.head = self.chain.head();
        self.checkpoint_due = true;
    }

    /// Begins the next file, and removes the oldest ones beyond [`Settings::files`].
    fn next_file(&mut self) -> Result<(), TrailError> {
        self.sync()?;
        // The path may lead to another directory by now, where readers look.
        let directory = self.directory.reopen()?;
        let file = directory.create(self.chain.head().sequence + 1)?;
        let directory_before = std::mem::replace(&mut self.directory, directory);
        let before = std::mem::replace(&mut self.file, file);
        let last = self.checkpoint.file;
        if let Err(error) = self.begin_file(None) {
            let _ = self.directory.remove(self.checkpoint.file.first);
            self.directory = directory_before;
            self.file = before;
            self.checkpoint.file = last;
            return Err(error);
        }
        let files = self.directory.files()?;
        let (old, kept) = files.split_at(self.excess(&files));
        // Only files that are removed here move the first line: `verify` reports all others missing.
        if let (false, Some(first)) = (old.is_empty(), kept.first()) {
            self.checkpoint.first = *first;
        }
        // Without the checkpoint `verify` would report them missing.
        let removable = if self.write_checkpoint() { old } else { &[] };
        removable.iter().try_for_each(|first| self.directory.remove(*first))
    }

    /// How many of the files have to go; the last one has just begun. The limit counts bytes, so that
    /// short files, which crashes leave, displace no others.
    fn excess(&self, files: &[u64]) -> usize {
        let Some(full) = self.start.settings.files.checked_sub(1) else { return 0 };
        let enough = u64::from(full).saturating_mul(self.start.settings.file_len);
        let mut kept = 0;
        let is_excess = |first: &u64| {
            let is_enough = kept >= enough;
            kept += self.directory.len_of(*first);
            is_enough
        };
        let full_files = files.len().saturating_sub(1);
        files[..full_files].iter().rposition(is_excess).map_or(0, |last| last + 1)
    }

    /// Writes the first line of a file. It holds the last link of the file before, so that the files
    /// that are kept can be verified without those that were removed.
    fn begin_file(&mut self, trouble: Option<&str>) -> Result<(), TrailError> {
        self.checkpoint.file = LastFile { first: self.chain.head().sequence + 1, len: 0 };
        let mut event = Event::new(EventName::TrailBegin, Subject::this_process());
        let mut details = json!({ "previousChain": link_to_text(&self.chain.head().link) });
        if let Some(trouble) = trouble {
            details["trouble"] = trouble.into();
        }
        event.parameters.details = Some(details);
        let mut chain = self.chain.clone();
        self.buffer.clear();
        scrubbed(|| self.line(&mut chain, &TimedEvent::now(event)))?;
        self.write()?;
        self.sync()?;
        self.directory.sync()?;
        self.chain = chain;
        self.note_end();
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.directory.file(self.checkpoint.file.first)
    }
}
