//! Where passphrases come from: a file, a command, or the terminal. Never an argument, which
//! every user of the machine can see.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zeroize::Zeroizing;

use crate::keys::{
    CostLimit, KeyError, KeyFileError, NewProtector, Passphrase, PassphraseCost, ProtectorError,
    Unlock,
};
use crate::sys;

/// More than any passphrase has, in bytes.
const MAX_PASSPHRASE_LEN: u64 = 64 * 1024 + 2;

/// How the passphrase of a key file is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct UnlockArgs {
    /// Read the key file's passphrase from a file [default: asked for on the terminal]
    #[arg(long, value_name = "F", conflicts_with = "passphrase_command")]
    pub passphrase_file: Option<PathBuf>,
    /// Read the key file's passphrase from what a command prints
    #[arg(long, value_name = "C")]
    pub passphrase_command: Option<String>,
    /// Memory that the key file's passphrase may take, in MiB, and three passes over it for each of
    /// 16 protectors [default: 1024]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_argon2_memory: Option<u32>,
}

impl Unlock for UnlockArgs {
    fn is_given(&self) -> bool {
        self.passphrase_file.is_some() || self.passphrase_command.is_some()
    }

    fn passphrase(&self) -> Result<Passphrase, KeyError> {
        match (&self.passphrase_file, &self.passphrase_command) {
            (Some(path), _) => from_file(path),
            (None, Some(command)) => from_command(command),
            (None, None) => {
                from_terminal("Passphrase of the key file: ", ProtectorError::PassphraseNeeded)
            }
        }
    }

    fn cost_limit(&self) -> CostLimit {
        self.max_argon2_memory
            .map_or_else(CostLimit::default, |memory_mib| CostLimit { memory_mib })
    }
}

/// A passphrase to be set, and what a guess at it is to cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub struct NewPassphraseArgs {
    /// Read the new passphrase from a file [default: asked for on the terminal, twice]
    #[arg(long, value_name = "F", conflicts_with = "new_passphrase_command")]
    pub new_passphrase_file: Option<PathBuf>,
    /// Read the new passphrase from what a command prints
    #[arg(long, value_name = "C")]
    pub new_passphrase_command: Option<String>,
    /// Memory that a guess at it takes, in MiB [default: 256]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub argon2_memory: Option<u32>,
    /// Passes over that memory [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub argon2_passes: Option<u32>,
}

impl NewPassphraseArgs {
    /// Whether any of it was given.
    pub fn is_given(&self) -> bool {
        *self != Self::default()
    }

    /// The protector to be made; asks on the terminal where nothing else is said.
    ///
    /// # Errors
    /// What kept the passphrase from being read; [`ProtectorError::PassphrasesDiffer`].
    pub fn protector(&self) -> Result<NewProtector, KeyError> {
        let passphrase = match (&self.new_passphrase_file, &self.new_passphrase_command) {
            (Some(path), _) => from_file(path)?,
            (None, Some(command)) => from_command(command)?,
            (None, None) => {
                let first = from_terminal("New passphrase: ", ProtectorError::NewPassphraseNeeded)?;
                let again = from_terminal("The same again: ", ProtectorError::NewPassphraseNeeded)?;
                if again != first {
                    return Err(ProtectorError::PassphrasesDiffer.into());
                }
                first
            }
        };
        let default = PassphraseCost::default();
        let cost = PassphraseCost {
            memory_kib: self.argon2_memory.map_or(default.memory_kib, |mib| mib * 1024),
            passes: self.argon2_passes.unwrap_or(default.passes),
            ..default
        };
        Ok(NewProtector::Passphrase { passphrase, cost })
    }
}

fn from_file(path: &Path) -> Result<Passphrase, KeyError> {
    let failed = |error| KeyFileError::io("read passphrase from", path, error);
    let file = sys::open_input(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    let mode = found.mode() & 0o7777;
    // Nobody else finds a file that has no name: a here-document of the shell.
    if found.is_file() && found.nlink() > 0 && mode & 0o077 != 0 {
        return Err(ProtectorError::PassphraseExposed { path: path.to_owned(), mode }.into());
    }
    Passphrase::from_line(read_all(file).map_err(failed)?)
}

fn from_command(command: &str) -> Result<Passphrase, KeyError> {
    let failed =
        |source| KeyFileError::io("read passphrase from command", Path::new(command), source);
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let printed = child.stdout.take().map_or_else(|| Ok(Vec::new()), read_all);
    let status = child.wait().map_err(failed)?;
    if !status.success() {
        return Err(failed(io::Error::other(format!("it ended with {status}"))).into());
    }
    Passphrase::from_line(printed.map_err(failed)?)
}

/// Asks for it, or fails for want of a terminal.
fn from_terminal(prompt: &str, needed: ProtectorError) -> Result<Passphrase, KeyError> {
    let line = rpassword::prompt_password(prompt).map_err(|_| needed)?;
    Passphrase::new(line.into_bytes())
}

fn read_all(from: impl Read) -> io::Result<Vec<u8>> {
    // With room for all of it, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSPHRASE_LEN as usize));
    from.take(MAX_PASSPHRASE_LEN).read_to_end(&mut bytes)?;
    Ok(std::mem::take(&mut *bytes))
}
