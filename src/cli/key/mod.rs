//! `atrest key`: the life of the master keys.

mod args;
mod backup;
mod files;
mod grant;
mod note;
mod protector;
mod show;

use std::io::{self, BufRead, IsTerminal};

use serde_json::json;

use args::KeyArgs;

use crate::cli::backend::Backend;
use crate::cli::output::{print, print_json};
use crate::cli::progress::Bar;
use crate::cli::target::Target;
use crate::cli::vault_args::VaultArgs;
use crate::keys::{DEFAULT_ROTATION_DAYS, KeyDescription, KeyError, Timestamp};
use crate::service::failure::{Exit, Failure, warn_user};
use crate::service::key_change::{Action, KeyChange};
use crate::service::request::{FileWork, Request};
use crate::service::response::Wrapped;

/// The life of the master keys: list, rotate, rewrap, retire, disable, protect, back up.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the master keys and their versions
    List(VaultArgs),
    /// Show one master key
    Describe(KeyArgs),
    /// Make a master key
    Create {
        #[command(flatten)]
        vault: VaultArgs,
        /// Its name: letters, digits, `.`, `_` and `-`
        name: String,
        /// Rotate it by itself after so many days, 0 for never
        #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_ROTATION_DAYS)]
        rotate_every: u32,
    },
    /// Add a version to a master key, which wraps what is written from now on
    Rotate {
        #[command(flatten)]
        key: KeyArgs,
        /// And from now on by itself after so many days, 0 for never
        #[arg(long, value_name = "DAYS")]
        rotate_every: Option<u32>,
    },
    /// Bring files' wrapped keys to the newest version; their content stays as it is
    Rewrap(files::RewrapArgs),
    /// Let a disabled master key be used again
    Enable(KeyArgs),
    /// Refuse all use of a master key until it is enabled
    Disable(KeyArgs),
    /// Refuse all use of a master key; it can be destroyed later
    ScheduleDeletion {
        #[command(flatten)]
        key: KeyArgs,
        /// How many days later
        #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(7..=30))]
        days: u32,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep a master key that was to be destroyed; it is disabled then
    CancelDeletion(KeyArgs),
    /// Destroy a master key whose deletion was scheduled, when its time is up
    Destroy {
        #[command(flatten)]
        key: KeyArgs,
        /// Do it without being asked for the key's name
        #[arg(long)]
        yes: bool,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Destroy an old version that no file refers to any more
    Retire(files::RetireArgs),
    /// Give a directory a master key, for files made in it from now on
    Assign(files::AssignArgs),
    /// Let somebody use a master key, or keep them from it
    Grant(grant::GrantArgs),
    /// Take back what `grant` granted, in the same words
    Revoke(grant::GrantArgs),
    /// Write all master keys in a form to print and lock away
    Backup(backup::BackupArgs),
    /// Make the key file anew from a backup
    Restore(backup::RestoreArgs),
    /// Who can open the key file: everybody who can read it, or who knows a passphrase
    #[command(subcommand)]
    Protector(protector::Command),
}

/// Runs a subcommand of `atrest key`.
///
/// # Errors
/// [`Exit::Vault`], [`Exit::KeyFile`], [`Exit::Key`], [`Exit::Busy`], as documented.
pub fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::List(args) => list(args),
        Command::Describe(args) => describe(args),
        Command::Create { vault, name, rotate_every } => {
            change(vault, name, Action::Create { rotate_every: *rotate_every }, false)
        }
        Command::Rotate { key, rotate_every } => {
            change(&key.vault, &key.name, Action::Rotate { rotate_every: *rotate_every }, false)
        }
        Command::Enable(key) => change(&key.vault, &key.name, Action::Enable, false),
        Command::Disable(key) => change(&key.vault, &key.name, Action::Disable, false),
        Command::ScheduleDeletion { key, days, dry_run } => {
            change(&key.vault, &key.name, Action::ScheduleDeletion { days: *days }, *dry_run)
        }
        Command::CancelDeletion(key) => {
            change(&key.vault, &key.name, Action::CancelDeletion, false)
        }
        Command::Destroy { key, yes, dry_run } => {
            if !yes && !dry_run {
                confirm_destruction(&key.vault, &key.name)?;
            }
            change(&key.vault, &key.name, Action::Destroy, *dry_run)
        }
        Command::Rewrap(args) => files::rewrap(args),
        Command::Retire(args) => files::retire(args),
        Command::Assign(args) => files::assign(args),
        Command::Grant(args) => grant::run(args, false),
        Command::Revoke(args) => grant::run(args, true),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Protector(command) => protector::run(command),
    }
}

fn list(args: &VaultArgs) -> Result<Exit, Failure> {
    let listed = args.list()?;
    if args.json {
        print_json(&json!(listed))?;
    } else {
        print(&show::table(&listed.keys))?;
    }
    Ok(Exit::Done)
}

fn describe(args: &KeyArgs) -> Result<Exit, Failure> {
    let keys = args.vault.list()?.keys;
    let named = keys.iter().find(|key| key.name == args.name);
    let key = named.or_else(|| keys.iter().find(|key| key.id.to_string() == args.name));
    let key = key.ok_or_else(|| KeyError::NoSuchKey(args.name.clone()))?;
    if args.vault.json {
        print_json(&json!(key))?;
    } else {
        print(&show::in_full(key))?;
    }
    Ok(Exit::Done)
}

/// Has what a master key wraps counted.
fn count(backend: &Backend<'_>, name: &str) -> Result<Wrapped, Failure> {
    let work = FileWork::Count { name: name.to_owned() };
    let bar = Bar::new(work.name());
    backend.perform(&Request::Work(work), &|step| bar.show(step))
}

/// Goes on only if the key's name is typed at the terminal.
fn confirm_destruction(args: &VaultArgs, name: &str) -> Result<(), Failure> {
    let message = format!(
        "that destroys the master key `{name}` for good, and all that it wraps can't be opened any more"
    );
    if io::stdin().is_terminal() {
        let target = Target::find(&args.vault)?;
        let wrapped = Backend::of(&target, args).and_then(|backend| count(&backend, name));
        let wrapped = wrapped.map_or_else(
            |failure| format!("which can't be counted ({failure})"),
            |wrapped| format!("the keys of {}", wrapped.in_words()),
        );
        warn_user(&format!(
            "{message}: {wrapped}. It is {} now. Type the key's name to do it:",
            Timestamp::now()
        ));
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        if line.trim() == name {
            return Ok(());
        }
    }
    Err(Failure::new(Exit::Usage, format!("{message}; `--yes` does it")))
}

/// Has a master key changed, and prints what it is then.
fn change(args: &VaultArgs, name: &str, action: Action, dry_run: bool) -> Result<Exit, Failure> {
    let change = KeyChange { name: name.to_owned(), action, dry_run };
    let target = Target::find(&args.vault)?;
    let backend = Backend::of(&target, args)?;
    // What can't be counted is left out, and prevents no change.
    let count = || change.ends_use().then(|| count(&backend, name).ok()).flatten();
    // A daemon counts also what a key has wrapped that is destroyed.
    let before = if backend.is_daemon() { None } else { count() };
    let key: KeyDescription = backend.perform(&Request::Change(change.clone()), &|_| ())?;
    let wrapped = if backend.is_daemon() { count() } else { before };
    if args.json {
        let mut key = json!(key);
        if let (Some(key), Some(wrapped)) = (key.as_object_mut(), wrapped) {
            key.insert("wraps_files".to_owned(), json!(wrapped.wraps_files));
            key.insert("wraps_vault_key".to_owned(), json!(wrapped.wraps_vault_key));
        }
        print_json(&key)?;
    } else {
        let mut message = change.done(&key);
        if let Some(wrapped) = wrapped {
            message.push(' ');
            message.push_str(&change.what_ends(&wrapped.in_words()));
        }
        print(&message)?;
    }
    Ok(Exit::Done)
}
