//! `atrest key protector`: who can open the key file.
//!
//! This is done here even for a mounted vault: whoever changes it shows by a passphrase that they
//! may, and the daemon opens the file again as long as the protector stays that it was started with.

use serde_json::json;

use super::note;
use crate::cli::output::{print, print_json};
use crate::cli::target::{Daemon, Target};
use crate::cli::vault_args::VaultArgs;
use crate::keys::{KeyError, NewProtector, OpenKeyFile, ProtectorDescription, RawProtectors};
use crate::service::failure::{Exit, Failure, warn_user};
use crate::service::keys::Keys;
use crate::service::passphrase::NewPassphraseArgs;
use crate::service::request::{Note, Request};
use crate::service::vault;

/// Show and change who can open the key file.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Show the protectors
    List(VaultArgs),
    /// Add a passphrase; it takes the place of a key file that opens without one
    Add {
        #[command(flatten)]
        vault: VaultArgs,
        #[command(flatten)]
        new: NewPassphraseArgs,
        /// Let the key file open without a passphrase: its mode 0600 alone protects it then
        #[arg(long, conflicts_with_all = ["new_passphrase_file", "new_passphrase_command", "argon2_memory", "argon2_passes", "keep_raw"])]
        raw: bool,
        /// Keep a protector that needs no passphrase, beside the new one
        #[arg(long)]
        keep_raw: bool,
    },
    /// Put a new passphrase in the place of a protector; the old one opens nothing any more
    Change {
        #[command(flatten)]
        vault: VaultArgs,
        /// Its number
        id: u32,
        #[command(flatten)]
        new: NewPassphraseArgs,
    },
    /// Take a protector away; never the last one
    Remove {
        #[command(flatten)]
        vault: VaultArgs,
        /// Its number
        id: u32,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
}

/// Runs a subcommand of `atrest key protector`.
///
/// # Errors
/// [`Exit::KeyFile`], [`Exit::Key`]; nothing is changed then.
pub fn run(command: &Command) -> Result<Exit, Failure> {
    match command {
        Command::List(args) => list(args),
        Command::Add { vault, new, raw, keep_raw } => {
            let keys = vault.open_keys()?;
            let new = if *raw { NewProtector::Raw } else { new.protector()? };
            let raw = if *keep_raw { RawProtectors::Keep } else { RawProtectors::Replace };
            let add = |file: &mut OpenKeyFile| file.protectors.add(&new, raw);
            edit(vault, &keys, Note::AddProtector, add)
        }
        Command::Change { vault, id, new } => {
            let keys = vault.open_keys()?;
            keys.read()?.protectors.require(*id)?;
            let new = new.protector()?;
            let change = |file: &mut OpenKeyFile| file.protectors.change(*id, &new);
            edit(vault, &keys, Note::ChangeProtector(*id), change)
        }
        Command::Remove { vault, id, dry_run } => {
            let keys = vault.open_keys()?;
            if *dry_run {
                let mut protectors = keys.read()?.protectors;
                protectors.remove(*id)?;
                return show(vault, &protectors.list());
            }
            let remove = |file: &mut OpenKeyFile| file.protectors.remove(*id).map(|()| *id);
            edit(vault, &keys, Note::RemoveProtector(*id), remove)
        }
    }
}

fn list(args: &VaultArgs) -> Result<Exit, Failure> {
    show(args, &args.keys_to_show()?.1.protectors.list())
}

/// Changes the key file and shows who can open it then.
fn edit(
    args: &VaultArgs,
    keys: &Keys,
    note: Note,
    change: impl FnOnce(&mut OpenKeyFile) -> Result<u32, KeyError>,
) -> Result<Exit, Failure> {
    let target = Target::find(&args.vault)?;
    note::record(&target, keys, note)?;
    let (_, file) = keys.edit(change)?;
    match target.daemon()? {
        Daemon::None => vault::note_change(&target.vault, &file.ring, file.mark()),
        Daemon::Reached(client) => {
            let noted = client.ask(&Request::KeyFile(file.mark().clone()), &|_| ());
            if let Err(failure) = noted {
                warn_user(&format!(
                    "the key file is changed, and the daemon did not hear of it: {failure}"
                ));
            }
        }
    }
    show(args, &file.protectors.list())
}

fn show(args: &VaultArgs, protectors: &[ProtectorDescription]) -> Result<Exit, Failure> {
    if args.json {
        print_json(&json!(protectors))?;
        return Ok(Exit::Done);
    }
    for protector in protectors {
        let cost = protector.cost.map_or_else(String::new, |cost| {
            format!("  argon2id, {} MiB, {} passes", cost.memory_kib / 1024, cost.passes)
        });
        print(&format!("{:<3} {:<11}{}{cost}", protector.id, protector.kind, protector.created))?;
    }
    Ok(Exit::Done)
}
