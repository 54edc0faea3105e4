//! How far the trail has come, as the vault keeps it: authenticated, so that it can't be set back
//! without the key.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::TrailError;
use super::chain::{Head, link_from_text, link_to_text};
use crate::crypto::TrailKeys;
use crate::format::{Epoch, EpochSet, JsonMac, padded_line};

/// Bytes of a file of the trail, unless told otherwise: 64 MiB.
const FILE_LEN: u64 = 64 << 20;
/// It is filled up to a multiple of this, so that the next one is as long and can be written over it
/// where the disk is full.
const UNIT: usize = 1024;
/// Full files of the trail that are kept, unless told otherwise.
const FILES: u32 = 16;

/// How a trail is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Every event is durable before it is answered.
    pub sync: bool,
    /// No key may be used while the trail can't be written.
    pub fail_closed: bool,
    /// Bytes of a file before the next begins.
    pub file_len: u64,
    /// How many full files are kept, or as many bytes in more that are short; 0 for all.
    pub files: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { sync: false, fail_closed: false, file_len: FILE_LEN, files: FILES }
    }
}

/// What the vault keeps of its trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Where the trail lies.
    pub directory: PathBuf,
    /// How it is kept.
    pub settings: Settings,
    /// The number of the first line that is kept.
    pub first: u64,
    /// The last line.
    pub head: Head,
    /// The first line of the file that the last one is in, and bytes of that file.
    pub(super) file: (u64, u64),
    /// The newest mount that knew of the trail, whether or not it kept one.
    pub epoch: Epoch,
    /// Mounts that kept none, as they were told.
    pub passed_over: u64,
    /// What the trail does not tell of yet.
    pub(super) gap: Option<Gap>,
}

/// The end of a mount whose trail could not be written then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Gap {
    /// Events that were lost.
    pub lost: u64,
    /// The mount.
    pub epoch: Epoch,
}

/// Where the vault keeps it.
pub trait SealKeeper: Send {
    /// What was last written, if anything was.
    ///
    /// # Errors
    /// What the backing filesystem says.
    fn read(&self) -> io::Result<Option<Vec<u8>>>;

    /// Replaces it; with `durable` so that it outlives the machine.
    ///
    /// # Errors
    /// What the backing filesystem says; the old one is there then.
    fn write(&self, bytes: &[u8], durable: bool) -> io::Result<()>;
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
    #[serde(default, skip_serializing_if = "is_zero")]
    passed_over: u64,
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

impl Seal {
    /// Of a trail of which there is nothing yet.
    pub(super) fn new(directory: &Path, settings: Settings, epoch: Epoch) -> Self {
        let directory = directory.to_owned();
        let (head, file) = (Head::START, (0, 0));
        Self { directory, settings, first: 1, head, file, epoch, passed_over: 0, gap: None }
    }

    /// What a vault keeps; `None` where no trail was ever kept.
    ///
    /// # Errors
    /// [`TrailError::Seal`] when it is not what was sealed; [`TrailError::Io`].
    pub fn read(keeper: &dyn SealKeeper, keys: &TrailKeys) -> Result<Option<Self>, TrailError> {
        let read = keeper.read();
        let bytes =
            read.map_err(|source| TrailError::io("read", Path::new("trail.json"), source))?;
        let Some(bytes) = bytes else { return Ok(None) };
        Self::from_bytes(&bytes, keys).map(Some).ok_or(TrailError::Seal)
    }

    /// Where the trail lies by what a vault keeps, without being authenticated: to look there.
    pub fn claimed_directory(keeper: &dyn SealKeeper) -> Option<PathBuf> {
        let bytes = keeper.read().ok()??;
        let sealed: Authenticated = serde_json::from_slice(&bytes).ok()?;
        Some(sealed.seal.directory.into())
    }

    /// Writes it.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn write(
        &self,
        keeper: &dyn SealKeeper,
        keys: &TrailKeys,
        durable: bool,
    ) -> io::Result<()> {
        keeper.write(&self.to_bytes(keys)?, durable)
    }

    /// What it means that the vault knows of mounts up to `newest`, where the trail should too, but
    /// for those `without_line`.
    pub fn set_back(&self, newest: Epoch, without_line: &EpochSet) -> Option<String> {
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
            file: self.file.0,
            bytes: self.file.1,
            epoch: self.epoch,
            passed_over: self.passed_over,
            gap: self.gap,
        };
        let mac = JsonMac::of(&seal, &keys.seal)?;
        padded_line(&Authenticated { seal, mac }, UNIT)
    }

    pub(super) fn from_bytes(bytes: &[u8], keys: &TrailKeys) -> Option<Self> {
        let Authenticated { seal, mac } = serde_json::from_slice(bytes).ok()?;
        if mac.verifies(&seal, &keys.seal) { Self::of(seal) } else { None }
    }

    fn of(seal: Body) -> Option<Self> {
        Some(Self {
            directory: seal.directory.into(),
            settings: seal.settings,
            first: seal.first,
            head: Head { sequence: seal.last, link: link_from_text(seal.link.as_bytes())? },
            file: (seal.file, seal.bytes),
            epoch: seal.epoch,
            passed_over: seal.passed_over,
            gap: seal.gap,
        })
    }

    /// Of a body without its MAC.
    #[cfg(any(test, fuzzing))]
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        Self::of(serde_json::from_slice(bytes).ok()?)
    }
}
