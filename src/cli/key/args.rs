//! The arguments of commands about one master key.

use crate::cli::vault_args::VaultArgs;
use crate::keys::DEFAULT_KEY;

/// A vault and one of its master keys.
#[derive(Debug, clap::Args)]
pub struct KeyArgs {
    #[command(flatten)]
    pub vault: VaultArgs,
    /// The master key's name or id
    #[arg(default_value = DEFAULT_KEY)]
    pub name: String,
}
