//! Lines to files: the end of the trail, its files and its seal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;

use super::chain::{Chain, Head, link_to_text, split};
use super::directory::Directory;
use super::line::Line;
use super::seal::{Seal, SealKeeper, Settings};
use super::verify::begins;
use super::{Event, EventName, TrailError, Who};
use crate::crypto::TrailKeys;
use crate::format::{Epoch, VolumeId};

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
    buffer: Vec<u8>,
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
        let end = End::find(&directory, &start.keys, sealed.as_ref())?;
        trouble = trouble.or(end.trouble);
        let first = directory.files()?.first().copied();
        let mut seal = sealed.unwrap_or_else(|| Seal {
            first: first.unwrap_or(1),
            ..Seal::new(&start.directory, start.settings, start.epoch)
        });
        seal.directory = directory.path().to_owned();
        seal.settings = start.settings;
        seal.epoch = start.epoch;
        seal.head = end.head;
        let chain = Chain::after(start.keys.line.clone(), end.head);
        let is_new = end.open.is_none();
        let file = match end.open {
            Some(file) => file,
            None => create(&directory, end.head.sequence + 1)?,
        };
        let mut writer = Self {
            start,
            directory,
            chain,
            seal,
            file,
            unsealed: true,
            buffer: Vec::new(),
            _lock: lock,
        };
        if is_new {
            writer.begin_file()?;
        }
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
        if self.seal.file.1 >= self.start.settings.file_len {
            self.next_file()?;
        }
        let mut chain = self.chain.clone();
        self.buffer.clear();
        let mut ends = Vec::with_capacity(events.len());
        for (time, event) in events {
            self.line(&mut chain, *time, event)?;
            ends.push(self.buffer.len());
        }
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

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// [`TrailError::Io`].
    pub fn sync(&mut self) -> Result<(), TrailError> {
        let synced = self.file.sync_data();
        synced.map_err(|source| TrailError::io("sync", &self.path(), source))
    }

    /// Brings the seal in the vault up to date. What keeps it from that is logged: the trail itself
    /// is whole without.
    pub fn seal(&mut self, durable: bool) {
        if !self.unsealed && !durable {
            return;
        }
        match self.seal.write(self.start.keeper.as_ref(), &self.start.keys, durable) {
            Ok(()) => self.unsealed = false,
            // Where nothing is to be written there is nothing to say of it.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            Err(error) => log::warn!("the vault does not know how far its trail has come: {error}"),
        }
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
        let mut line = Line::of(event, time, self.start.volume);
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

    fn note_end(&mut self) {
        self.seal.file.1 += self.buffer.len() as u64;
        self.seal.head = self.chain.head();
        self.unsealed = true;
    }

    /// Goes on in a new file, and takes the oldest away where there are too many.
    fn next_file(&mut self) -> Result<(), TrailError> {
        self.sync()?;
        let file = create(&self.directory, self.chain.head().sequence + 1)?;
        let before = std::mem::replace(&mut self.file, file);
        let was = self.seal.file;
        if let Err(error) = self.begin_file() {
            let _ = fs::remove_file(self.path());
            self.file = before;
            self.seal.file = was;
            return Err(error);
        }
        let files = self.directory.files()?;
        let keep = match self.start.settings.files {
            0 => files.len(),
            keep => keep as usize,
        };
        let (old, kept) = files.split_at(files.len().saturating_sub(keep));
        let first = std::mem::replace(&mut self.seal.first, kept.first().copied().unwrap_or(1));
        self.seal(true);
        if self.unsealed {
            // Files that the vault counts on stay until it can be told.
            self.seal.first = first;
            return Ok(());
        }
        for first in old {
            let path = self.directory.file(*first);
            fs::remove_file(&path).map_err(|source| TrailError::io("remove", &path, source))?;
        }
        Ok(())
    }

    /// The first line of a file: it says what the chain was before, so that those kept can be
    /// verified without those that are not.
    fn begin_file(&mut self) -> Result<(), TrailError> {
        self.seal.file = (self.chain.head().sequence + 1, 0);
        let mut event = Event::new(EventName::TrailBegin, Who::here());
        event.parameters.details =
            Some(json!({ "previousChain": link_to_text(&self.chain.head().link) }));
        let mut chain = self.chain.clone();
        self.buffer.clear();
        self.line(&mut chain, Timestamp::now(), &event)?;
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

fn create(directory: &Directory, first: u64) -> Result<File, TrailError> {
    let path = directory.file(first);
    let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
    opened.map_err(|source| TrailError::io("make", &path, source))
}

/// Where a trail ends.
struct End {
    head: Head,
    /// The last file, where it ends as it was sealed.
    open: Option<File>,
    trouble: Option<String>,
}

impl End {
    fn find(
        directory: &Directory,
        keys: &TrailKeys,
        sealed: Option<&Seal>,
    ) -> Result<Self, TrailError> {
        let files = directory.files()?;
        let sealed_head = sealed.map_or(Head::START, |seal| seal.head);
        let Some(&last) = files.last() else {
            let trouble = (sealed_head.sequence > 0)
                .then(|| format!("nothing is left of the trail in {}", directory.path().display()));
            return Ok(Self { head: sealed_head, open: None, trouble });
        };
        if let Some(seal) = sealed
            && seal.file.0 == last
            && let Some(file) = open_as_sealed(&directory.file(last), seal)?
        {
            return Ok(Self { head: seal.head, open: Some(file), trouble: None });
        }
        // A crash, or somebody else: the lines say themselves how far they are whole.
        let mut chain: Option<Chain> = None;
        let (mut lines, mut whole) = (0, true);
        directory.read(last, |line| {
            lines += 1;
            whole = whole && follows(&mut chain, keys, last, line);
            true
        })?;
        let found = chain.filter(|_| whole).map(|chain| chain.head());
        if lines == 0 && last > sealed_head.sequence {
            // A crash came before its first line.
            let path = directory.file(last);
            fs::remove_file(&path).map_err(|source| TrailError::io("remove", &path, source))?;
            return Self::find(directory, keys, sealed);
        }
        match found.filter(|head| head.sequence >= sealed_head.sequence) {
            Some(head) => Ok(Self { head, open: None, trouble: None }),
            None => {
                let place = directory.path().display();
                let trouble =
                    format!("the trail in {place} was changed; `atrest trail verify` says how");
                // Behind all that is there, so that nothing is written over.
                let sequence = sealed_head.sequence.max((last - 1).saturating_add(lines));
                let head = Head { sequence, ..sealed_head };
                Ok(Self { head, open: None, trouble: Some(trouble) })
            }
        }
    }
}

/// Whether a line is the next of the file that begins with line `first`.
fn follows(chain: &mut Option<Chain>, keys: &TrailKeys, first: u64, line: &[u8]) -> bool {
    let Some((body, link)) = split(line) else { return false };
    let chain = match chain {
        Some(chain) => chain,
        None => match begins(first, body) {
            Some(before) => chain.insert(Chain::after(keys.line.clone(), before)),
            None => return false,
        },
    };
    let next = chain.head().sequence + 1;
    chain.follow(next, body, link)
}

/// The file, if it ends where and as the seal says.
fn open_as_sealed(path: &Path, seal: &Seal) -> Result<Option<File>, TrailError> {
    let io = |source| TrailError::io("open", path, source);
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() != seal.file.1 {
        return Ok(None);
    }
    let ending = format!("{}\"}}\n", link_to_text(&seal.head.link));
    let mut found = vec![0; ending.len()];
    let is_long = seal.file.1 >= ending.len() as u64;
    let read = is_long
        .then(|| file.read_exact_at(&mut found, seal.file.1 - ending.len() as u64).ok())
        .flatten();
    Ok((read.is_some() && found == ending.as_bytes()).then_some(file))
}
