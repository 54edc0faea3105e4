//! What a vault is, and how it is mounted: what `status --json` prints.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::keys::{KeyRing, Timestamp};
use crate::store::{Description, path_of_record};
use crate::sys::Confinement;
use crate::trail::TrailStatus;

/// What `--json` prints. Paths that are not UTF-8 are shown with U+FFFD in place of the rest.
#[derive(Debug, Default, Serialize, Deserialize)]
// A daemon of another version has other fields.
#[serde(default)]
pub struct Status {
    /// Whether a daemon serves it.
    pub mounted: bool,
    /// Whether it has a mount whose daemon has died.
    pub stale: bool,
    /// The daemon's process.
    pub pid: Option<u32>,
    /// The vault's directory.
    pub vault: String,
    /// The vault's id.
    pub vault_id: String,
    /// Where it is mounted.
    pub mountpoint: Option<String>,
    /// Whether the mount is read-only.
    pub read_only: bool,
    /// The format's version.
    pub format: u16,
    /// How names are stored: `plain`.
    pub names: String,
    /// The master key that wraps new files; null without the key file.
    pub key: Option<String>,
    /// The version of it that wraps; null without the key file.
    pub key_version: Option<u32>,
    /// When the daemon rotates the next key by itself; null for never, and without the key file.
    pub next_rotation: Option<Timestamp>,
    /// The key file in use; null if there is none that opens.
    pub key_file: Option<String>,
    /// Why there is none that opens; null where there is.
    #[serde(default)]
    pub key_problem: Option<String>,
    /// Files that were given a data key since the mount.
    pub files_sealed: u64,
    /// Plaintext bytes sealed since the mount.
    pub bytes_sealed: u64,
    /// How long the daemon looks out for the next request before it sleeps, in microseconds.
    pub spin_us: u64,
    /// What the daemon has given up; null where there is none.
    pub confinement: Option<Confinement>,
    /// The trail; null where none is kept.
    pub trail: Option<TrailStatus>,
    /// Why the mount keeps none; null where it does, and where there is no mount.
    #[serde(default)]
    pub no_trail: Option<String>,
    /// What is known of the vault's age.
    pub freshness: FreshnessStatus,
    /// How often each FUSE operation was asked for since the mount.
    pub operations: BTreeMap<String, u64>,
}

/// What this machine knows of a vault's age.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct FreshnessStatus {
    /// What was found at the mount: `fresh`, `first-seen`, `moved`, `copy`, `accepted-rollback`,
    /// `no-record`; null while it is not mounted.
    pub found: Option<String>,
    /// Where that is kept; null where nothing is.
    pub record: Option<String>,
    /// Why it can't be kept; null while it can.
    #[serde(default)]
    pub failing: Option<String>,
}

fn lossy(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

impl Status {
    /// A vault that nobody has open, by its description.
    pub fn at_rest(vault: &Path, description: &Description) -> Self {
        Self {
            vault: vault.to_string_lossy().into_owned(),
            vault_id: description.vault.to_string(),
            format: description.format,
            names: description.names.as_str().to_owned(),
            freshness: FreshnessStatus {
                found: None,
                record: path_of_record(&description.vault).map(lossy),
                failing: None,
            },
            ..Self::default()
        }
    }

    /// The same, with what its key file says.
    pub fn with_keys(self, path: &Path, ring: &KeyRing) -> Self {
        let key = ring.default_key();
        Self {
            key: Some(key.name().to_owned()),
            key_version: Some(key.current().0),
            next_rotation: ring.next_rotation(),
            key_file: Some(path.to_string_lossy().into_owned()),
            ..self
        }
    }
}
