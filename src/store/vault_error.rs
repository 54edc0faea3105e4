//! Why a vault can't be made, opened or ended.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

use super::own_files::METADATA_DIR;
use super::probe::{ProbeError, Unfit};
use crate::format::{FORMAT_VERSION, VaultId};
use crate::keys::KeyError;
use crate::sys::Show;

/// Why a vault can't be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// No description is there.
    #[error("it is not a vault: it has no {METADATA_DIR}/vault.json (make one with `atrest init`)")]
    NotAVault,
    /// A vault is made in an empty directory alone.
    #[error("it is not empty: a vault is made in a new or an empty directory")]
    NotEmpty,
    /// Not a directory, or not one that can be opened.
    #[error("it can't be opened: {0}")]
    Unreachable(io::Error),
    /// Its directory can't be made.
    #[error("it can't be made: {0}")]
    Unmade(io::Error),
    /// A format that this program does not know.
    #[error(
        "it is of format version {0}, and this program reads version {FORMAT_VERSION}: use a newer atrest"
    )]
    Version(u16),
    /// A file of the vault's own is not what was written.
    #[error("its file {METADATA_DIR}/{0} is damaged or was changed: restore it from a backup")]
    Damaged(&'static str),
    /// The keys are those of another vault.
    #[error("the key file belongs to vault {keys}, not to this one, {vault}")]
    OtherKeyFile {
        /// The vault's id.
        vault: VaultId,
        /// The id in the key file.
        keys: VaultId,
    },
    /// A process has it open: its id, where it is known.
    #[error("it is in use{}: unmount it first", .0.map_or_else(String::new, |pid| format!(" by process {pid}")))]
    Locked(Option<u32>),
    /// The filesystem that it is on can't carry a vault.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// It, its key file, its trail or this machine's record of it is older than another of them says.
    #[error(
        "it was put back to an older state: {}; if that is meant, as after restoring a backup, mount \
         it with --accept-rollback",
        .0.join("; ")
    )]
    SetBack(Vec<String>),
    /// What would tell whether it was put back is missing or can't be read.
    #[error(
        "whether it was put back to an older state can't be told: {}; if all is as it should be, \
         mount it with --accept-rollback",
        .0.join("; ")
    )]
    Unproven(Vec<String>),
    /// Its vault key is wrapped by a version that the key file does not have any more, or not yet.
    #[error("it or its key file was put back to an older state, and they do not go together: {0}")]
    KeysApart(KeyError),
    /// It is a copy of one that lies there still.
    #[error(
        "it is a copy of the vault in {}: mount it with --read-only, or with a trail of its own \
         (--trail DIR, or --no-trail); if it is the vault and that one the copy, --accept-rollback \
         says so",
        .0.shown()
    )]
    IsCopy(PathBuf),
    /// Work on all its files was stopped before its end.
    #[error("the work was stopped before its end, and did no harm: run it again to finish")]
    Stopped,
    /// Not all files could be recovered after a crash.
    #[error("{0} files could not be recovered")]
    Unrecovered(u64),
    /// Files could not be completed at the end of a mount.
    #[error("{}", outstanding(*.files, .reason.as_deref()))]
    Outstanding {
        /// How many.
        files: u64,
        /// What keeps the first of them from it, where that is known.
        reason: Option<String>,
    },
    /// The backing filesystem failed.
    #[error("the backing filesystem says: {0}")]
    Io(#[from] io::Error),
    /// The master key can't be used.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<ProbeError> for VaultError {
    fn from(error: ProbeError) -> Self {
        match error {
            ProbeError::Unfit(unfit) => Self::Unfit(unfit),
            ProbeError::Io(error) => Self::Io(error),
        }
    }
}

impl From<Errno> for VaultError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

fn outstanding(files: u64, reason: Option<&str>) -> String {
    let (files, their) = match files {
        1 => ("1 file".to_owned(), "its"),
        files => (format!("{files} files"), "their"),
    };
    let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
    format!(
        "{files} could not be completed{reason} (`atrest verify` names what {their} mount left)"
    )
}
