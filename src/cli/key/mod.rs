//! `atrest key`: the life of the master keys.

mod backup;
mod change;
mod files;
mod grant;
mod protector;
mod show;

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::format::VolumeId;
use crate::keys::{
    DEFAULT_KEY, DEFAULT_ROTATION_DAYS, KeyDescription, KeyError, NoPassphrase, Timestamp,
};

use super::control::Request;
use super::exit::{Context, Exit, Failure, print, print_json, tell};
use super::passphrase::UnlockArgs;
use super::target::{Daemon, Target};
use super::trail::recorded;
use super::vault::{self, Keys};

pub use change::{Action, KeyChange};
pub use files::FileWork;

use files::Wrapped;
pub use grant::PolicyChange;

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

/// A vault and its key file.
#[derive(Debug, clap::Args)]
pub struct VaultArgs {
    /// The vault, or where it is mounted
    pub vault: PathBuf,
    /// The vault's key file; a mounted vault has its own [default: $ATREST_KEY_FILE, or the place
    /// where init put it]
    #[arg(long, value_name = "F")]
    pub key_file: Option<PathBuf>,
    #[command(flatten)]
    pub unlock: UnlockArgs,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl VaultArgs {
    /// Opens the key file here, though a daemon may have the vault; it tells where it lies.
    ///
    /// # Errors
    /// [`Exit::Vault`], [`Exit::KeyFile`].
    pub fn open_keys(&self) -> Result<Keys, Failure> {
        let (id, path) = self.locate_keys()?;
        Keys::open(&id, path.as_deref(), &self.unlock)
    }

    /// The vault's id, and where the key file is if something says so.
    fn locate_keys(&self) -> Result<(VolumeId, Option<PathBuf>), Failure> {
        let target = Target::find(&self.vault)?;
        let id = vault::describe(&target.vault)?.vault;
        let path = match (&self.key_file, target.daemon()?) {
            (None, Daemon::Reached(client)) => {
                super::status::Status::of_daemon(client)?.key_file.map(PathBuf::from)
            }
            (path, _) => path.clone(),
        };
        Ok((id, path))
    }
}

/// A vault and one of its master keys.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(flatten)]
    vault: VaultArgs,
    /// The master key's name or id
    #[arg(default_value = DEFAULT_KEY)]
    name: String,
}

/// Does what is asked.
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

/// What `list --json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed {
    /// The vault's id.
    pub vault_id: VolumeId,
    /// Where the key file lies.
    pub key_file: String,
    /// The keys, or those of them that who asks may see.
    pub keys: Vec<KeyDescription>,
}

impl VaultArgs {
    /// What a master key wraps.
    fn wrapped(&self, name: &str) -> Result<Wrapped, Failure> {
        let target = Target::find(&self.vault)?;
        match target.daemon()? {
            Daemon::Reached(client) => Wrapped::ask(client, name),
            Daemon::None => Wrapped::here(&target.vault, &self.open_keys()?, name),
        }
    }

    /// Whether there is a master key of this name or id; `None` where that takes asking for a passphrase.
    pub fn knows_key(&self, name: &str) -> Option<bool> {
        let keys = if Target::find(&self.vault).ok()?.client().is_some() {
            self.listed().ok()?.keys
        } else {
            let (id, path) = self.locate_keys().ok()?;
            Keys::open(&id, path.as_deref(), &NoPassphrase).ok()?.read().ok()?.ring.describe()
        };
        Some(keys.iter().any(|key| key.name == name || key.id.to_string() == name))
    }

    /// The keys, as the daemon knows them or, where none is asked, as the key file has them.
    fn listed(&self) -> Result<Listed, Failure> {
        if let (None, Daemon::Reached(client)) =
            (&self.key_file, Target::find(&self.vault)?.daemon()?)
        {
            let listed = client.ask(&Request::Keys, &mut |_| ())?;
            return serde_json::from_value(listed)
                .or_fail(Exit::Failed, || "the daemon".to_owned());
        }
        let keys = self.open_keys()?;
        let ring = keys.read()?.ring;
        let key_file = keys.path.to_string_lossy().into_owned();
        Ok(Listed { vault_id: ring.volume_id(), key_file, keys: ring.describe() })
    }
}

fn list(args: &VaultArgs) -> Result<Exit, Failure> {
    let listed = args.listed()?;
    if args.json {
        print_json(&json!(listed))?;
    } else {
        print(&show::table(&listed.keys))?;
    }
    Ok(Exit::Done)
}

fn describe(args: &KeyArgs) -> Result<Exit, Failure> {
    let keys = args.vault.listed()?.keys;
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

/// Goes on only if the key's name is typed at the terminal.
fn confirm_destruction(args: &VaultArgs, name: &str) -> Result<(), Failure> {
    let sentence = format!(
        "that destroys the master key `{name}` for good, and all that it wraps can't be opened any more"
    );
    if io::stdin().is_terminal() {
        let wrapped = args.wrapped(name).map_or_else(
            |failure| format!("which can't be counted ({failure})"),
            |wrapped| format!("the keys of {}", wrapped.in_words()),
        );
        tell(&format!(
            "{sentence}: {wrapped}. It is {} now. Type the key's name to do it:",
            Timestamp::now()
        ));
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line)?;
        if line.trim() == name {
            return Ok(());
        }
    }
    Err(Failure::new(Exit::Usage, format!("{sentence}; `--yes` does it")))
}

/// Changes a master key, by the daemon or, with nobody mounting meanwhile, here.
fn change(args: &VaultArgs, name: &str, action: Action, dry_run: bool) -> Result<Exit, Failure> {
    let change = KeyChange { name: name.to_owned(), action, dry_run };
    let target = Target::find(&args.vault)?;
    // What can't be counted is not told, and keeps nobody from the change.
    let mut wrapped = None;
    let key: KeyDescription = match target.daemon()? {
        Daemon::Reached(client) => {
            let key = client.ask(&Request::Change(change.clone()), &mut |_| ())?;
            if change.ends_use() {
                wrapped = target.client().and_then(|client| Wrapped::ask(client, name).ok());
            }
            serde_json::from_value(key).or_fail(Exit::Failed, || "the daemon".to_owned())?
        }
        Daemon::None => {
            let id = vault::describe(&target.vault)?.vault;
            let keys = Keys::open(&id, args.key_file.as_deref(), &args.unlock)?;
            let _turn = vault::Turn::unused(&target.vault)?;
            let request = Request::Change(change.clone());
            if change.ends_use() {
                wrapped = Wrapped::here(&target.vault, &keys, name).ok();
            }
            recorded(&target.vault, &keys, &request, |_| {
                let (key, file) = vault::change(&keys, &change)?;
                vault::note_change(&target.vault, &file.ring, file.mark());
                Ok((key, file.ring))
            })?
        }
    };
    if args.json {
        let mut key = json!(key);
        if let (Some(key), Some(wrapped)) = (key.as_object_mut(), wrapped) {
            key.insert("wraps_files".to_owned(), json!(wrapped.wraps_files));
            key.insert("wraps_vault_key".to_owned(), json!(wrapped.wraps_vault_key));
        }
        print_json(&key)?;
    } else {
        let mut sentence = change.done(&key);
        if let Some(wrapped) = wrapped {
            sentence.push(' ');
            sentence.push_str(&change.what_ends(&wrapped.in_words()));
        }
        print(&sentence)?;
    }
    Ok(Exit::Done)
}
