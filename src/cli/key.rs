//! `atrest key`: the life of the master key.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::json;

use crate::format::KeyVersion;
use crate::keys::{DEFAULT_KEY, KeyDescription};
use crate::store::Access;

use super::control::Request;
use super::exit::{Context, Exit, Failure, print, tell};
use super::maintain::{self, Rewrapped};
use super::progress::Bar;
use super::status::Status;
use super::target::{Daemon, Target};
use super::vault;

/// List, rotate and rewrap the master key of a vault.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the master keys and their versions
    List {
        #[command(flatten)]
        vault: VaultArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Add a version to the master key, which wraps what is written from now on
    Rotate {
        #[command(flatten)]
        vault: VaultArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Bring every file's wrapped key to the newest version; the files' content stays as it is
    Rewrap {
        #[command(flatten)]
        vault: VaultArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A vault and its key file.
#[derive(Debug, clap::Args)]
pub struct VaultArgs {
    /// The vault, or where it is mounted
    pub vault: PathBuf,
    /// The vault's key file; a mounted vault has its own [default: $ATREST_KEY_FILE, or the place
    /// where init put it]
    #[arg(long, value_name = "F")]
    pub key_file: Option<PathBuf>,
}

/// Does what is asked.
///
/// # Errors
/// [`Exit::Vault`], [`Exit::KeyFile`], [`Exit::Busy`], as documented.
pub fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::List { vault, json } => list(vault, *json),
        Command::Rotate { vault, json } => rotate(vault, *json),
        Command::Rewrap { vault, json } => rewrap(vault, *json),
    }
}

fn list(args: &VaultArgs, as_json: bool) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault)?;
    let id = vault::describe(&target.vault)?.vault;
    let of_daemon = match (&args.key_file, target.daemon()?) {
        (None, Daemon::Reached(client)) => Status::of_daemon(client)?.key_file.map(PathBuf::from),
        _ => None,
    };
    let keys = vault::keys(&id, args.key_file.as_deref().or(of_daemon.as_deref()))?;
    let described = keys.file.ring.describe();
    if as_json {
        let key_file = keys.path.to_string_lossy();
        let listed = json!({ "vault_id": id, "key_file": key_file, "keys": described });
        print(&format!("{listed:#}"))?;
    } else {
        print(&table(&described))?;
    }
    Ok(Exit::Done)
}

fn table(keys: &[KeyDescription]) -> String {
    let mut text = String::new();
    for key in keys {
        let default = if key.default { ", the default" } else { "" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}  {}  {}{default}", key.name, key.id, key.state);
        for version in &key.versions {
            let state = json!(version.state);
            let state = state.as_str().unwrap_or_default();
            let _ =
                writeln!(text, "  version {:<4} {state:<8} {}", version.version.0, version.created);
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn rotate(args: &VaultArgs, as_json: bool) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault)?;
    let version: KeyVersion = match target.daemon()? {
        Daemon::Reached(client) => {
            let version = client.ask(&Request::Rotate, &mut |_| ())?;
            serde_json::from_value(version).or_fail(Exit::Failed, || "the daemon".to_owned())?
        }
        Daemon::None => {
            let id = vault::describe(&target.vault)?.vault;
            let keys = vault::keys(&id, args.key_file.as_deref())?;
            // Opened for its lock, and because the keys must be known to fit; nothing is written.
            let fs = vault::open(&target.vault, &keys, Access::ReadOnly)?;
            vault::rotate(&keys, &fs)?
        }
    };
    if as_json {
        let rotated = json!({ "key": DEFAULT_KEY, "version": version });
        print(&format!("{rotated:#}"))?;
        return Ok(Exit::Done);
    }
    print(&format!(
        "The master key `{DEFAULT_KEY}` is at version {version} now. \
         `atrest key rewrap` brings the files there are to it."
    ))?;
    Ok(Exit::Done)
}

fn rewrap(args: &VaultArgs, as_json: bool) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault)?;
    let bar = Bar::new("rewrapping");
    let done: Rewrapped = match target.daemon()? {
        Daemon::Reached(client) => {
            let done = client.ask(&Request::Rewrap, &mut |step| bar.show(step))?;
            serde_json::from_value(done).or_fail(Exit::Failed, || "the daemon".to_owned())?
        }
        Daemon::None => {
            let id = vault::describe(&target.vault)?.vault;
            let keys = vault::keys(&id, args.key_file.as_deref())?;
            let fs = vault::open(&target.vault, &keys, Access::ReadWrite)?;
            let done = vault::reread(&keys, &fs).and_then(|()| {
                maintain::rewrap(&fs, &target.vault, &|step| {
                    bar.show(step);
                    true
                })
            });
            fs.close().map_err(|error| vault::failure(&target.vault, error))?;
            done?
        }
    };
    drop(bar);
    let Rewrapped { rewrapped, already_new, empty, failed } = &done;
    if as_json {
        print(&format!("{:#}", json!(done)))?;
    } else {
        print(&format!(
            "{rewrapped} rewrapped, {already_new} were at the newest version, {empty} have no content."
        ))?;
    }
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    for trouble in failed {
        tell(&format!("{}: {}", trouble.path, trouble.reason));
    }
    let sentence =
        format!("{} files could not be rewrapped; run it again once they can", failed.len());
    Err(Failure::new(Exit::Failed, sentence))
}
