//! The arguments of commands that use a vault and its keys.

use std::path::PathBuf;

use crate::cli::status::of_daemon;
use crate::cli::target::{Daemon, Target};
use crate::format::VaultId;
use crate::keys::OpenKeyFile;
use crate::service::failure::{Failure, warn_user};
use crate::service::keys::Keys;
use crate::service::passphrase::UnlockArgs;
use crate::service::vault;
use crate::store::Vault;
use crate::sys::Show;

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

    /// The key file and what it holds, to be shown; one that is older than the vault or this machine
    /// knows is told.
    ///
    /// # Errors
    /// As [`VaultArgs::open_keys`].
    pub fn keys_to_show(&self) -> Result<(Keys, OpenKeyFile), Failure> {
        let keys = self.open_keys()?;
        let file = keys.read()?;
        let vault = Target::find(&self.vault)?.vault;
        if let Some(doubt) = Vault::key_file_doubt(&vault, &file.ring, file.mark()) {
            let vault = vault.shown();
            warn_user(&format!(
                "the vault {vault}: {doubt}; what is shown may not be what is in force"
            ));
        }
        Ok((keys, file))
    }

    /// The vault's id, and where the key file is if something says so.
    pub fn locate_keys(&self) -> Result<(VaultId, Option<PathBuf>), Failure> {
        let target = Target::find(&self.vault)?;
        let id = vault::describe(&target.vault)?.vault;
        let path = match (&self.key_file, target.daemon()?) {
            (None, Daemon::Reached(client)) => of_daemon(client)?.key_file.map(PathBuf::from),
            (path, _) => path.clone(),
        };
        Ok((id, path))
    }
}
