//! `atrest init`: a vault and its key file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::output::print;
use crate::daemon::lies_in;
use crate::format::{FORMAT_VERSION, VaultId};
use crate::keys::{DEFAULT_KEY, DEFAULT_ROTATION_DAYS, KeyFile, KeyRing};
use crate::service::failure::{Context, Exit, Failure, vault_failure};
use crate::service::passphrase::NewPassphraseArgs;
use crate::service::paths::would_be;
use crate::service::vault;
use crate::store::{NameMode, Vault, VaultError};
use crate::sys::Show;

/// Make a vault and its key file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A new or an empty directory
    vault: PathBuf,
    /// Where the key file goes [default: $ATREST_KEY_FILE, or ~/.config/atrest/<vault's id>.json]
    #[arg(long, value_name = "F")]
    key_file: Option<PathBuf>,
    /// Protect the key file by a passphrase, asked for on the terminal
    #[arg(long)]
    passphrase: bool,
    #[command(flatten)]
    new: NewPassphraseArgs,
    /// Rotate the master key by itself after so many days, 0 for never
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_ROTATION_DAYS)]
    rotate_every: u32,
}

/// Makes both, or neither.
///
/// # Errors
/// [`Exit::Vault`] for a directory that isn't empty, [`Exit::KeyFile`] for a key file that can't
/// be made there.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let dir = std::path::absolute(&args.vault)?;
    check_directory(&dir)?;
    let id = VaultId::random();
    let key_file = std::path::absolute(KeyFile::locate(&id, args.key_file.as_deref())?)?;
    if lies_in(&would_be(&key_file), &would_be(&dir)) {
        let message = format!(
            "the key file {} would lie in its own vault: who has the one would have the other",
            key_file.shown()
        );
        return Err(Failure::new(Exit::KeyFile, message));
    }
    let mut ring = KeyRing::create(id);
    ring.set_rotation(DEFAULT_KEY, args.rotate_every)?;
    let protectors = match args.passphrase || args.new.is_given() {
        true => vec![args.new.protector()?],
        false => Vec::new(),
    };
    let mark = KeyFile::create(&key_file, &ring, &protectors)?;
    if let Err(error) = Vault::create(&dir, &ring, NameMode::Plain) {
        KeyFile::discard(&key_file).context(Exit::KeyFile, || {
            format!("no vault was made ({error}), and its key file stays")
        })?;
        return Err(vault_failure(&dir, error));
    }
    // So that the first mount here is not the first time that this machine sees it.
    vault::note_change(&dir, &ring, &mark);
    print(&format!(
        "Made the vault {}, of format {FORMAT_VERSION}, with the id {id}.\n\
         Its key file is {}.\n\
         Keep a copy of the key file in another place: without it the data is lost.",
        dir.shown(),
        key_file.shown()
    ))?;
    Ok(Exit::Done)
}

/// Looks before anything is made, so that a refusal changes nothing.
fn check_directory(dir: &Path) -> Result<(), Failure> {
    match fs::read_dir(dir) {
        Ok(mut entries) => match entries.next() {
            Some(_) => Err(vault_failure(dir, VaultError::NotEmpty)),
            None => Ok(()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(vault_failure(dir, VaultError::Unreachable(error))),
    }
}
