//! `atrest status`: what a vault is, and whether and how it is mounted.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::cli::output::{print, print_json};
use crate::cli::target::Target;
use crate::control::Client;
use crate::keys::{KeyError, KeyFile, NoPassphrase, ProtectorError};
use crate::service::failure::{Exit, Failure};
use crate::service::mount_lock;
use crate::service::request::Request;
use crate::service::status::Status;
use crate::service::vault;
use crate::sys::{self, Confinement, Show};

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

/// Prints the status.
///
/// # Errors
/// [`Exit::Vault`] when there is none of which to tell.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let status = status_of(&Target::find(&args.target)?, args.key_file.as_deref())?;
    if args.json {
        print_json(&status)?;
    } else {
        print(&to_text(&status))?;
    }
    Ok(Exit::Done)
}

/// Whether the daemon of `target` has opened the vault to read it only, whatever the mount's flags
/// are by now. One that can't be asked has.
///
/// # Errors
/// As the daemon's answer.
pub fn is_opened_read_only(target: &Target) -> Result<bool, Failure> {
    target.client().map_or(Ok(true), |client| Ok(of_daemon(client)?.read_only))
}

fn status_of(target: &Target, key_file: Option<&Path>) -> Result<Status, Failure> {
    if let Some(client) = target.client() {
        return of_daemon(client);
    }
    let description = vault::describe(&target.vault)?;
    let mut status = Status::at_rest(&target.vault, &description);
    // Without its keys there is less to show, and nothing wrong.
    let opened = KeyFile::locate(&description.vault, key_file).and_then(|path| {
        let file = KeyFile::open(&path, &description.vault, &NoPassphrase)?;
        Ok((path, file))
    });
    match opened {
        Ok((path, file)) => {
            let path = std::path::absolute(&path).unwrap_or(path);
            status = status.with_keys(&path, &file.ring);
        }
        Err(KeyError::Protector(ProtectorError::PassphraseNeeded)) => {
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
    status.pid = mount_lock::holder(&target.vault)?.and_then(|holder| holder.pid);
    Ok(status)
}

/// What a daemon says.
///
/// # Errors
/// When it does not answer.
pub fn of_daemon(client: Client) -> Result<Status, Failure> {
    client.ask(&Request::Status, &|_| ())?.try_into()
}

fn to_text(status: &Status) -> String {
    let mount = match (&status.mountpoint, status.pid) {
        (Some(mountpoint), _) if status.stale => {
            format!("{}, stale: its daemon died", mountpoint.shown())
        }
        (Some(mountpoint), Some(pid)) => {
            let how = if status.read_only { ", read-only" } else { "" };
            format!("{}, by process {pid}{how}", mountpoint.shown())
        }
        (Some(mountpoint), None) => mountpoint.shown().to_string(),
        (None, Some(pid)) => format!("no; in use by process {pid}"),
        (None, None) => "no".to_owned(),
    };
    let key = match (&status.key, status.key_version, &status.key_file) {
        (Some(key), Some(version), Some(file)) => {
            format!("{key}, version {version}, in {}", file.shown())
        }
        _ => status.key_problem.clone().unwrap_or_else(|| "no key file at hand".to_owned()),
    };
    let mut text = format!(
        "vault    {} ({})\nmounted  {mount}\nformat   {}, names {}\nkey      {key}",
        status.vault.shown(),
        status.vault_id,
        status.format,
        status.names,
    );
    // Writing to a String cannot fail.
    if let Some(found) = &status.freshness.found {
        let _ = write!(text, "\nage      {found}");
    }
    if let Some(reason) = &status.freshness.failing {
        let _ = write!(text, "\n         what this machine knows can't be kept: {reason}");
    }
    if let Some(next) = &status.next_rotation {
        let _ = write!(text, "\nrotates  {next}");
    }
    if let Some(trail) = &status.trail {
        let directory = trail.directory.shown();
        let _ = write!(text, "\ntrail    {} lines, in {directory}", trail.last);
        if let Some(reason) = &trail.failing {
            let _ = write!(text, "; it can't be written: {reason}");
        }
    }
    if let Some(reason) = &status.no_trail {
        let _ = write!(text, "\ntrail    none ({reason})");
    }
    if let Some(confinement) = &status.confinement {
        let _ = write!(text, "\nconfined {}", in_words(confinement));
    }
    if status.mounted {
        let _ =
            write!(text, "\nsealed   {} files, {} bytes", status.files_sealed, status.bytes_sealed);
        for (operation, count) in &status.operations {
            let _ = write!(text, "\n  {operation:<16} {count}");
        }
    }
    text
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
