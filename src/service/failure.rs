//! How a command ends: the exit codes, and the one message that goes with a failure.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use crate::keys::{KeyError, KeyFileError, PolicyError};
use crate::store::VaultError;
use crate::sys::{self, Show};
use crate::trail::TrailError;

/// The exit codes. They are part of the interface: scripts rely on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done, or (verify) no damage.
    Done = 0,
    /// The operation failed for a reason that no other code names.
    Failed = 1,
    /// The command line can't be understood.
    Usage = 2,
    /// verify, or trail verify, found damage.
    Damage = 3,
    /// Not a vault, or not one that this version can use, or one whose directory can't be used.
    Vault = 4,
    /// The key file is missing, damaged, of another vault, or open to others.
    KeyFile = 5,
    /// The mount can't be made: mount point, `/dev/fuse`, fusermount3.
    Mount = 6,
    /// In use: already mounted, locked by another process, or (umount) held busy.
    Busy = 7,
    /// The master key, its version or the protector is not there, or not in a state for that.
    Key = 8,
    /// The master key's policy denies the caller, or would let nobody any more.
    Policy = 9,
    /// The trail can't be kept, or there is none.
    Trail = 10,
    /// Put back to an older state, or a copy: not mounted without being told that this is meant.
    Rollback = 11,
}

/// What `--help` says about the exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done; verify: no damage
  1  the operation failed
  2  the command line is wrong
  3  verify or trail verify found damage
  4  not a vault, or not one that this version or this user can use
  5  the key file is missing, damaged, of another vault, or open to others
  6  the mount can't be made: the mount point, /dev/fuse or fusermount3
  7  in use: already mounted, locked by another process, or the mount is busy
  8  no such master key, version, protector or grant, or not in a state that allows it
  9  the key's policy does not allow it, or would lock everybody out
 10  the trail can't be kept, or there is none
 11  the vault or its key file was put back to an older state, or is a copy of another";

impl Exit {
    /// The exit of a process that ended with this code; [`Exit::Failed`] for one that is not ours.
    pub fn from_code(code: i32) -> Self {
        match code {
            0 => Self::Done,
            2 => Self::Usage,
            3 => Self::Damage,
            4 => Self::Vault,
            5 => Self::KeyFile,
            6 => Self::Mount,
            7 => Self::Busy,
            8 => Self::Key,
            9 => Self::Policy,
            10 => Self::Trail,
            11 => Self::Rollback,
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// One sentence for the user, without the program's name. Empty if it was reported already.
    pub message: String,
}

impl Failure {
    /// A failure with a message.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// A failure that was reported already, as by the process that became the daemon.
    pub fn already_reported(exit: Exit) -> Self {
        Self { exit, message: String::new() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

/// Adds to an error what was being done.
pub trait Context<T> {
    /// The error becomes a [`Failure`] that begins with `what`.
    ///
    /// # Errors
    /// The error, if there was one.
    fn context(self, exit: Exit, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: fmt::Display> Context<T> for Result<T, E> {
    fn context(self, exit: Exit, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(exit, format!("{}: {error}", what())))
    }
}

/// Prints a message that is no result to stderr, under the program's name.
pub fn warn_user(message: &str) {
    use io::Write;
    // With stderr closed there is nobody to warn.
    let _ = writeln!(io::stderr(), "atrest: {}", sys::harmless(message, false));
}

/// The failure for an error of a vault.
pub fn vault_failure(vault: &Path, error: VaultError) -> Failure {
    let exit = match &error {
        VaultError::NotAVault
        | VaultError::NotEmpty
        | VaultError::Unmade(_)
        | VaultError::Unreachable(_)
        | VaultError::Unfit(_)
        | VaultError::Version(_)
        | VaultError::Damaged(_) => Exit::Vault,
        VaultError::OtherKeyFile { .. } => Exit::KeyFile,
        VaultError::SetBack(_)
        | VaultError::Unproven(_)
        | VaultError::KeysApart(_)
        | VaultError::IsCopy(_) => Exit::Rollback,
        VaultError::Key(error) => exit_of(error),
        VaultError::Locked(_) => Exit::Busy,
        VaultError::Stopped | VaultError::Unrecovered(_) | VaultError::Outstanding { .. } => {
            Exit::Failed
        }
        VaultError::Io(refusal) => match refusal.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                let vault = vault.shown();
                let message = format!(
                    "the vault {vault} can't be written ({refusal}): mount it with --read-only"
                );
                return Failure::new(Exit::Vault, message);
            }
            _ => Exit::Failed,
        },
    };
    Failure::new(exit, format!("the vault {}: {error}", vault.shown()))
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        Self::new(exit_of(&error), error.to_string())
    }
}

fn exit_of(error: &KeyError) -> Exit {
    match error {
        KeyError::Policy(PolicyError::LocksOut { .. }) => return Exit::Policy,
        KeyError::KeyFile(KeyFileError::Replaced(_)) => return Exit::Rollback,
        KeyError::KeyFile(KeyFileError::Io { source, .. })
            if source.kind() == io::ErrorKind::TimedOut =>
        {
            return Exit::Busy;
        }
        _ => {}
    }
    if error.is_refusal() { Exit::Key } else { Exit::KeyFile }
}

impl From<TrailError> for Failure {
    fn from(error: TrailError) -> Self {
        Self::new(Exit::Trail, error.to_string())
    }
}
