//! `atrest status`: what a vault is, and whether and how it is mounted.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::keys::{KeyError, KeyFile, KeyRing, NoPassphrase, Timestamp};
use crate::store::{Description, path_of_record};
use crate::sys::{self, Confinement, Show};
use crate::trail::Condition;

use super::control::{Client, Request};
use super::exit::{Context, Exit, Failure, print, print_json};
use super::target::Target;
use super::vault;

/// Show whether a vault is mounted, and how.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The vault, or where it is mounted
    target: PathBuf,
    /// The vault's key file, of a vault that is not mounted
    #[arg(long, value_name = "F")]
    key_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Paths that are not UTF-8 are shown with U+FFFD in place of the rest.
#[derive(Debug, Default, Serialize, Deserialize)]
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
    pub trail: Option<Condition>,
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

/// Prints the status.
///
/// # Errors
/// [`Exit::Vault`] when there is none of which to tell.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let status = Status::of(&Target::find(&args.target)?, args.key_file.as_deref())?;
    if args.json {
        print_json(&status)?;
    } else {
        print(&status.to_text())?;
    }
    Ok(Exit::Done)
}

fn lossy(path: PathBuf) -> String {
    path.to_string_lossy().into_owned()
}

impl Status {
    /// Whether the daemon of `target` has opened the vault to read it only, whatever the mount's flags
    /// are by now. One that can't be asked has.
    ///
    /// # Errors
    /// As the daemon's answer.
    pub fn is_read_only(target: &Target) -> Result<bool, Failure> {
        target.client().map_or(Ok(true), |client| Ok(Self::of_daemon(client)?.read_only))
    }

    fn of(target: &Target, key_file: Option<&Path>) -> Result<Self, Failure> {
        if let Some(client) = target.client() {
            return Self::of_daemon(client);
        }
        let description = vault::describe(&target.vault)?;
        let mut status = Self::at_rest(&target.vault, &description);
        // Without its keys there is less to tell, and nothing wrong.
        let opened = KeyFile::locate(&description.vault, key_file).and_then(|path| {
            let file = KeyFile::open(&path, &description.vault, &NoPassphrase)?;
            Ok((path, file))
        });
        match opened {
            Ok((path, file)) => {
                let path = std::path::absolute(&path).unwrap_or(path);
                status = status.with_keys(&path, &file.ring);
            }
            Err(KeyError::PassphraseNeeded) => {
                let problem = "the key file takes a passphrase, which status does not ask for";
                status.key_problem = Some(problem.to_owned());
            }
            Err(error) => status.key_problem = Some(error.to_string()),
        }
        if let Some(mounted) = &target.mounted {
            status.stale = sys::is_stale(&mounted.mountpoint);
            status.mounted = !status.stale;
            status.mountpoint = Some(mounted.mountpoint.to_string_lossy().into_owned());
        }
        status.pid = vault::holder(&target.vault)?.flatten();
        Ok(status)
    }

    /// What a daemon says.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn of_daemon(client: Client) -> Result<Self, Failure> {
        let status = client.ask(&Request::Status, &mut |_| ())?;
        serde_json::from_value(status).or_fail(Exit::Failed, || "the daemon's status".to_owned())
    }

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

    fn to_text(&self) -> String {
        let mount = match (&self.mountpoint, self.pid) {
            (Some(mountpoint), _) if self.stale => {
                format!("{}, stale: its daemon died", mountpoint.shown())
            }
            (Some(mountpoint), Some(pid)) => {
                let how = if self.read_only { ", read-only" } else { "" };
                format!("{}, by process {pid}{how}", mountpoint.shown())
            }
            (Some(mountpoint), None) => mountpoint.shown().to_string(),
            (None, Some(pid)) => format!("no; in use by process {pid}"),
            (None, None) => "no".to_owned(),
        };
        let key = match (&self.key, self.key_version, &self.key_file) {
            (Some(key), Some(version), Some(file)) => {
                format!("{key}, version {version}, in {}", file.shown())
            }
            _ => self.key_problem.clone().unwrap_or_else(|| "no key file at hand".to_owned()),
        };
        let mut text = format!(
            "vault    {} ({})\nmounted  {mount}\nformat   {}, names {}\nkey      {key}",
            self.vault.shown(),
            self.vault_id,
            self.format,
            self.names,
        );
        // Writing to a String cannot fail.
        if let Some(found) = &self.freshness.found {
            let _ = write!(text, "\nage      {found}");
        }
        if let Some(reason) = &self.freshness.failing {
            let _ = write!(text, "\n         what this machine knows can't be kept: {reason}");
        }
        if let Some(next) = &self.next_rotation {
            let _ = write!(text, "\nrotates  {next}");
        }
        if let Some(trail) = &self.trail {
            let directory = trail.directory.shown();
            let _ = write!(text, "\ntrail    {} lines, in {directory}", trail.last);
            if let Some(reason) = &trail.failing {
                let _ = write!(text, "; it can't be written: {reason}");
            }
        }
        if let Some(reason) = &self.no_trail {
            let _ = write!(text, "\ntrail    none ({reason})");
        }
        if let Some(confinement) = &self.confinement {
            let _ = write!(text, "\nconfined {}", in_words(confinement));
        }
        if self.mounted {
            let _ =
                write!(text, "\nsealed   {} files, {} bytes", self.files_sealed, self.bytes_sealed);
            for (operation, count) in &self.operations {
                let _ = write!(text, "\n  {operation:<16} {count}");
            }
        }
        text
    }
}

fn in_words(confinement: &Confinement) -> String {
    let filter = if confinement.seccomp { "a filter of system calls" } else { "no filter" };
    let files = match confinement.landlock {
        0 => "no Landlock".to_owned(),
        version => format!("Landlock {version}"),
    };
    let privileges = if confinement.no_new_privileges { "no new privileges, " } else { "" };
    format!("{filter}, {files}, {privileges}{} capabilities", confinement.capabilities.len())
}
