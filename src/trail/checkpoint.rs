//! The checkpoint of a trail: its end, as the vault keeps it. It is authenticated, so that a rollback
//! of the trail cannot be hidden without the key.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TrailError;
use super::chain::{Head, link_from_text, link_to_text};
use crate::crypto::TrailKeys;
use crate::format::{Epoch, EpochSet, JsonMac, padded_line};

/// Default length of a file of the trail: 64 MiB.
const FILE_LEN: u64 = 64 << 20;
/// Default number of full files that are kept.
const FILES: u32 = 16;
/// A checkpoint is padded to a multiple of this, so that the next one has the same length and can
/// replace it where the disk is full.
const PADDED_TO: usize = 1024;

/// How a trail is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Every event is durable before the operation is answered.
    pub sync: bool,
    /// No key may be used while the trail can't be written.
    pub fail_closed: bool,
    /// Length in bytes at which a file ends and the next one begins.
    pub file_len: u64,
    /// How many full files are kept, or as many bytes in more files that are short; 0 for all.
    pub files: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sync: false, fail_closed: false, file_len: FILE_LEN, files: FILES }
    }
}

/// What the vault keeps of its trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The directory of the trail.
    pub directory: PathBuf,
    /// How it is kept.
    pub settings: Settings,
    /// The number of the first line that is kept.
    pub first: u64,
    /// The last line.
    pub head: Head,
    /// The last file.
    pub(super) file: LastFile,
    /// The newest mount that read the checkpoint, whether or not it kept a trail.
    pub epoch: Epoch,
    /// Mounts that kept no trail on purpose.
    pub without_trail: u64,
    /// Lost events that no line records yet.
    pub(super) gap: Option<Gap>,
}

/// The last file of a trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LastFile {
    /// The number of its first line; 0 where there is no file yet.
    pub first: u64,
    /// Its length in bytes.
    pub len: u64,
}

/// Events lost because the trail could not be written at the end of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gap {
    /// How many.
    pub lost: u64,
    /// The mount.
    pub epoch: Epoch,
}

/// Whether a checkpoint has to survive a crash of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It is on stable storage when the write returns.
    Durable,
    /// It may reach stable storage later.
    Buffered,
}

/// Where the vault keeps the checkpoint.
pub trait CheckpointStore: Send {
    /// The bytes last written; `None` before the first write.
    ///
    /// # Errors
    /// Those of read(2).
    fn read(&self) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the checkpoint. On failure the old one is still there.
    ///
    /// # Errors
    /// Those of write(2), fsync(2) and rename(2); EROFS where the vault is open for reading alone.
    fn write(&self, bytes: &[u8], durability: Durability) -> io::Result<()>;
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    directory: String,
    settings: Settings,
    first: u64,
    last: u64,
    link: String,
    file: u64,
    bytes: u64,
    epoch: Epoch,
    #[serde(rename = "passed_over", default, skip_serializing_if = "is_zero")]
    without_trail: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
struct Authenticated {
    seal: Body,
    mac: JsonMac,
}

impl Checkpoint {
    /// The checkpoint of an empty trail.
    pub(super) fn new(directory: &Path, settings: Settings, epoch: Epoch) -> Self {
        Self {
            directory: directory.to_owned(),
            settings,
            first: 1,
            head: Head::START,
            file: LastFile { first: 0, len: 0 },
            epoch,
            without_trail: 0,
            gap: None,
        }
    }

    /// The checkpoint in `store`; `None` where no trail was ever kept.
    ///
    /// # Errors
    /// [`TrailError::Checkpoint`] when its MAC or form is wrong; [`TrailError::Io`].
    pub fn read(store: &dyn CheckpointStore, keys: &TrailKeys) -> Result<Option<Self>, TrailError> {
        let read = store.read();
        let bytes =
            read.map_err(|source| TrailError::io("read", Path::new("trail.json"), source))?;
        let Some(bytes) = bytes else { return Ok(None) };
        Self::from_bytes(&bytes, keys).map(Some).ok_or(TrailError::Checkpoint)
    }

    /// The directory that a checkpoint names. It is not authenticated.
    pub fn claimed_directory(store: &dyn CheckpointStore) -> Option<PathBuf> {
        let bytes = store.read().ok()??;
        let found: Authenticated = serde_json::from_slice(&bytes).ok()?;
        Some(found.seal.directory.into())
    }

    /// Writes the checkpoint to `store`.
    ///
    /// # Errors
    /// Those of [`CheckpointStore::write`]; EINVAL for a directory whose path is not UTF-8.
    pub fn write(
        &self,
        store: &dyn CheckpointStore,
        keys: &TrailKeys,
        durability: Durability,
    ) -> io::Result<()> {
        store.write(&self.to_bytes(keys)?, durability)
    }

    /// Whether it knows of lines in this directory.
    pub(super) fn is_of(&self, directory: &Path) -> bool {
        self.head.sequence > 0 && self.directory == directory
    }

    /// A message where the vault knows of mounts up to `newest` that the checkpoint does not, other
    /// than those `without_line`: the trail was rolled back, or could not be kept.
    pub fn rollback_message(&self, newest: Epoch, without_line: &EpochSet) -> Option<String> {
        let known = self.epoch;
        (!without_line.outside(Epoch(known.0 + 1), newest).is_empty()).then(|| {
            format!(
                "the vault has been mounted {} times and its trail knows of {}: the trail was set \
                 back, or could not be kept",
                newest.0, known.0
            )
        })
    }

    pub(super) fn to_bytes(&self, keys: &TrailKeys) -> io::Result<Vec<u8>> {
        let directory = self.directory.to_str().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the trail's directory is not UTF-8")
        })?;
        let seal = Body {
            directory: directory.to_owned(),
            settings: self.settings,
            first: self.first,
            last: self.head.sequence,
            link: link_to_text(&self.head.link),
            file: self.file.first,
            bytes: self.file.len,
            epoch: self.epoch,
            without_trail: self.without_trail,
            gap: self.gap,
        };
        let mac = JsonMac::of(&seal, &keys.seal)?;
        padded_line(&Authenticated { seal, mac }, PADDED_TO)
    }

    pub(super) fn from_bytes(bytes: &[u8], keys: &TrailKeys) -> Option<Self> {
        let Authenticated { seal, mac } = serde_json::from_slice(bytes).ok()?;
        if mac.verifies(&seal, &keys.seal) { Self::of(seal) } else { None }
    }

    fn of(body: Body) -> Option<Self> {
        Some(Self {
            directory: body.directory.into(),
            settings: body.settings,
            first: body.first,
            head: Head { sequence: body.last, link: link_from_text(body.link.as_bytes())? },
            file: LastFile { first: body.file, len: body.bytes },
            epoch: body.epoch,
            without_trail: body.without_trail,
            gap: body.gap,
        })
    }

    /// The checkpoint of a body without its MAC.
    #[cfg(any(test, fuzzing))]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Self::of(serde_json::from_slice(bytes).ok()?)
    }
}
