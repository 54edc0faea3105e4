//! Lines to files: the end of the trail, its files and its seal.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::json;

use super::chain::{Chain, Head, link_to_text};
use super::directory::Directory;
use super::end::End;
use super::line::Line;
use super::seal::{Gap, Seal, SealKeeper, Settings};
use super::{Event, EventName, TrailError};
use crate::crypto::{TrailKeys, scrubbed};
use crate::format::{Epoch, EpochSet, VolumeId};
use crate::keys::policy::Subject;

/// What a trail begins with.
pub struct Start {
    /// The vault whose trail it is.
    pub volume: VolumeId,
    /// What it is authenticated with.
    pub keys: TrailKeys,
    /// Where it lies.
    pub directory: PathBuf,
    /// How it is kept.
    pub settings: Settings,
    /// The newest mount of the vault.
    pub epoch: Epoch,
    /// Mounts of which it need know nothing.
    pub without_line: EpochSet,
    /// Where the vault keeps how far the trail has come.
    pub keeper: Box<dyn SealKeeper>,
}

/// The end of a trail, where lines are appended. One process has it at a time.
pub(super) struct Writer {
    start: Start,
    directory: Directory,
    chain: Chain,
    seal: Seal,
    file: File,
    /// Whether the seal in the vault says less than there is.
    unsealed: bool,
    /// Whether it was logged that it can't be written.
    told: bool,
    buffer: Vec<u8>,
    /// The vault's id.
    volume: String,
    _lock: File,
}

impl Writer {
    /// Finds the end of the trail and goes on from there, in a new file unless the last one ends as
    /// it was sealed. Also returns what is wrong with it, which `verify` tells whole.
    ///
    /// # Errors
    /// [`TrailError`] when it can't be written.
    pub fn open(start: Start) -> Result<(Self, Option<String>), TrailError> {
        let directory = Directory::make(&start.directory)?;
        let lock = directory.lock()?;
        let (sealed, mut trouble) = match Seal::read(start.keeper.as_ref(), &start.keys) {
            Ok(sealed) => (sealed, None),
            Err(error @ TrailError::Seal) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        let first = directory.files()?.first().copied();
        let was_elsewhere = sealed.as_ref().is_some_and(|seal| seal.directory != directory.path());
        let end = match &sealed {
            // It goes on here; what there was stays where it is.
            Some(seal) if was_elsewhere && first.is_none() => {
                End { head: seal.head, open: None, trouble: None }
            }
            sealed => End::find(&directory, &start.keys, sealed.as_ref())?,
        };
        // The mount that begins is the one that the trail does not know of yet.
        let before = Epoch(start.epoch.0.saturating_sub(1));
        trouble = trouble.or(end.trouble).or_else(|| {
            sealed.as_ref().and_then(|seal| seal.set_back(before, &start.without_line))
        });
        let mut seal = sealed.unwrap_or_else(|| Seal {
            first: first.unwrap_or(1),
            ..Seal::new(&start.directory, start.settings, start.epoch)
        });
        if was_elsewhere && first.is_none() {
            seal.first = end.head.sequence + 1;
        }
        seal.directory = directory.path().to_owned();
        seal.settings = start.settings;
        seal.epoch = start.epoch;
        seal.head = end.head;
        let chain = Chain::after(start.keys.line.clone(), end.head);
        // Trouble is written down, where the next seal does not cover it up.
        let open = end.open.filter(|_| trouble.is_none());
        let is_new = open.is_none();
        let file = match open {
            Some(file) => file,
            None => directory.create(end.head.sequence + 1)?,
        };
        let mut writer = Self {
            volume: start.volume.to_string(),
            start,
            directory,
            chain,
            seal,
            file,
            unsealed: true,
            told: false,
            buffer: Vec::new(),
            _lock: lock,
        };
        if is_new && let Err(error) = writer.begin_file(trouble.as_deref()) {
            let _ = writer.directory.remove(writer.seal.file.0);
            return Err(error);
        }
        writer.tell_gap();
        writer.seal(true);
        Ok((writer, trouble))
    }

    /// Appends events, each with its time. On failure none of them was written.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn append(
        &mut self,
        events: &[(Timestamp, Event)],
        mut told: impl FnMut(&Event, &str),
    ) -> Result<(), TrailError> {
        if self.seal.file.1 >= self.start.settings.file_len || self.is_removed() {
            self.next_file()?;
        }
        let mut chain = self.chain.clone();
        self.buffer.clear();
        let mut ends = Vec::with_capacity(events.len());
        scrubbed(|| {
            events.iter().try_for_each(|(time, event)| {
                self.line(&mut chain, *time, event)?;
                ends.push(self.buffer.len());
                Ok::<_, TrailError>(())
            })
        })?;
        self.write()?;
        self.chain = chain;
        self.note_end();
        let mut begin = 0;
        for ((_, event), end) in events.iter().zip(ends) {
            let line = self.buffer.get(begin..end - 1).and_then(|line| str::from_utf8(line).ok());
            told(event, line.unwrap_or_default());
            begin = end;
        }
        Ok(())
    }

    /// The trail could not be written when this mount ended, and so many events are lost: the vault
    /// keeps that until the trail tells it.
    pub fn note_gap(&mut self, lost: u64) {
        let before = self.seal.gap.map_or(0, |gap| gap.lost);
        self.seal.gap = Some(Gap { lost: before + lost, epoch: self.start.epoch });
        self.unsealed = true;
    }

    /// Tells of a gap that the vault keeps, as soon as there is room.
    fn tell_gap(&mut self) {
        let Some(Gap { lost, epoch }) = self.seal.gap else { return };
        let mut event = Event::new(EventName::TrailGap, Subject::this_process());
        event.parameters.details = Some(json!({ "lost": lost, "epoch": epoch }));
        // Else the vault keeps it, and what is recorded next finds out that there is no room.
        if self.append(&[(Timestamp::now(), event)], |_, _| ()).is_ok() {
            self.seal.gap = None;
        }
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn sync(&mut self) -> Result<(), TrailError> {
        let synced = self.file.sync_data();
        synced.map_err(|source| TrailError::io("sync", &self.path(), source))
    }

    /// Brings the seal in the vault up to date; returns whether it is. What keeps it from that is
    /// logged: the trail itself is whole without.
    pub fn seal(&mut self, durable: bool) -> bool {
        if !self.unsealed && !durable {
            return true;
        }
        // A seal that outlives a crash of the machine must not know of lines that do not.
        let synced = self.file.sync_data();
        let (keeper, keys) = (self.start.keeper.as_ref(), &self.start.keys);
        match synced.and_then(|()| self.seal.write(keeper, keys, durable)) {
            Ok(()) => (self.unsealed, self.told) = (false, false),
            // A vault that is read alone keeps what it knows.
            Err(error) if self.told || error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            Err(error) => {
                log::warn!("the vault does not know how far its trail has come: {error}");
                self.told = true;
            }
        }
        !self.unsealed
    }

    /// The last line.
    pub fn head(&self) -> Head {
        self.chain.head()
    }

    fn line(
        &mut self,
        chain: &mut Chain,
        time: Timestamp,
        event: &Event,
    ) -> Result<(), TrailError> {
        let mut line = Line::of(event, time, &self.volume);
        let appended = chain.append(&mut line, &mut self.buffer);
        appended.map_err(|error| TrailError::io("write", &self.path(), error))
    }

    /// Writes the buffer behind what is there, whole or not at all.
    fn write(&mut self) -> Result<(), TrailError> {
        let end = self.seal.file.1;
        let written = self.file.write_all_at(&self.buffer, end);
        written.map_err(|source| {
            // What is left of it is no whole line, and the next write goes over it.
            let _ = self.file.set_len(end);
            TrailError::io("write", &self.path(), source)
        })
    }

    /// What is written to a file that was removed is read by nobody.
    fn is_removed(&self) -> bool {
        self.file.metadata().is_ok_and(|file| file.nlink() == 0)
    }

    fn note_end(&mut self) {
        self.seal.file.1 += self.buffer.len() as u64;
        self.seal.head = self.chain.head();
        self.unsealed = true;
    }

    /// Goes on in a new file, and takes the oldest away where there is enough without them.
    fn next_file(&mut self) -> Result<(), TrailError> {
        self.sync()?;
        // Nobody finds what goes on where the directory was.
        self.directory = self.directory.again()?;
        let file = self.directory.create(self.chain.head().sequence + 1)?;
        let before = std::mem::replace(&mut self.file, file);
        let was = self.seal.file;
        if let Err(error) = self.begin_file(None) {
            let _ = self.directory.remove(self.seal.file.0);
            self.file = before;
            self.seal.file = was;
            return Err(error);
        }
        let files = self.directory.files()?;
        let (old, kept) = files.split_at(self.excess(&files));
        // What is not there without having been taken away here stays missed.
        if let (false, Some(first)) = (old.is_empty(), kept.first()) {
            self.seal.first = *first;
        }
        // Else they would be missed: the vault takes them for the first that are kept.
        let removable = if self.seal(true) { old } else { &[] };
        removable.iter().try_for_each(|first| self.directory.remove(*first))
    }

    /// How many of the files, the last of which has just begun, go. They count by their bytes: the
    /// short ones that crashes leave push no others out.
    fn excess(&self, files: &[u64]) -> usize {
        let Some(full) = self.start.settings.files.checked_sub(1) else { return 0 };
        let enough = u64::from(full).saturating_mul(self.start.settings.file_len);
        let mut kept = 0;
        let goes = |first: &u64| {
            let is_enough = kept >= enough;
            kept += self.directory.len_of(*first);
            is_enough
        };
        let before = files.len().saturating_sub(1);
        files[..before].iter().rposition(goes).map_or(0, |last| last + 1)
    }

    /// The first line of a file: it says what the chain was before, so that those kept can be
    /// verified without those that are not.
    fn begin_file(&mut self, trouble: Option<&str>) -> Result<(), TrailError> {
        self.seal.file = (self.chain.head().sequence + 1, 0);
        let mut event = Event::new(EventName::TrailBegin, Subject::this_process());
        let mut details = json!({ "previousChain": link_to_text(&self.chain.head().link) });
        if let Some(trouble) = trouble {
            details["trouble"] = trouble.into();
        }
        event.parameters.details = Some(details);
        let mut chain = self.chain.clone();
        self.buffer.clear();
        scrubbed(|| self.line(&mut chain, Timestamp::now(), &event))?;
        self.write()?;
        self.sync()?;
        self.directory.sync()?;
        self.chain = chain;
        self.note_end();
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.directory.file(self.seal.file.0)
    }
}
