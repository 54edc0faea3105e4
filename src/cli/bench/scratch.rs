//! A vault for the time being: made, mounted, unmounted and removed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::cli::umount;
use crate::format::VaultId;
use crate::keys::{KeyFile, KeyRing};
use crate::service::failure::{Context, Exit, Failure, vault_failure, warn_user};
use crate::store::{Access, Evidence, NameMode, Vault};
use crate::sys::{self, Show};

/// A directory with a vault in it, and one beside it that is no vault. Both are gone, unmounted
/// first, when the value is.
pub struct Scratch {
    dir: TempDir,
    mounted: bool,
}

impl Scratch {
    /// Makes the vault in `directory`.
    ///
    /// # Errors
    /// [`Exit::Failed`] where nothing can be made.
    pub fn make(directory: &Path) -> Result<Self, Failure> {
        let failed = || format!("no vault can be made in {}", directory.shown());
        // Made for its owner alone.
        let dir = tempfile::Builder::new().prefix("atrest-bench.").tempdir_in(directory);
        let scratch = Self { dir: dir.context(Exit::Failed, failed)?, mounted: false };
        for path in [scratch.vault(), scratch.mountpoint(), scratch.bare()] {
            fs::create_dir(path).context(Exit::Failed, failed)?;
        }
        let ring = KeyRing::create(VaultId::random());
        let mark = KeyFile::create(&scratch.key_file(), &ring, &[])?;
        let made = Vault::create(&scratch.vault(), &ring, NameMode::Plain);
        // What this machine knows of it, and its trail, go with it.
        let place = Some(scratch.state().join("atrest"));
        let evidence = Evidence { place, ..Evidence::new(mark) };
        let seen = made
            .and_then(|()| Vault::open_fresh(&scratch.vault(), ring, Access::ReadOnly, &evidence));
        seen.map_err(|error| vault_failure(&scratch.vault(), error))?;
        Ok(scratch)
    }

    /// Mounts it, by a daemon of its own, that a Ctrl-C for this process does not reach.
    ///
    /// # Errors
    /// [`Exit::Mount`], whose reason the daemon has printed.
    pub fn mount(&mut self) -> Result<(), Failure> {
        let program = std::env::current_exe()?;
        // Before it is there: a daemon that mounts and then fails is to be looked for as well.
        self.mounted = true;
        let mut command = Command::new(program);
        command.arg("mount").arg(self.vault()).arg(self.mountpoint());
        command.arg("--key-file").arg(self.key_file());
        command.arg("--log-file").arg(self.dir.path().join("log"));
        command.env("XDG_STATE_HOME", self.state());
        let status = command.stdin(Stdio::null()).process_group(0).status()?;
        match status.code() {
            Some(0) => Ok(()),
            code => Err(Failure::already_reported(Exit::from_code(code.unwrap_or(1)))),
        }
    }

    /// Unmounts it; returns when all is in the vault.
    ///
    /// # Errors
    /// What `atrest umount` fails with.
    pub fn unmount(&mut self) -> Result<(), Failure> {
        umount::run(&umount::Args::of(self.mountpoint()))?;
        self.mounted = false;
        Ok(())
    }

    /// Where it is mounted.
    pub fn mountpoint(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// A directory on the same file system that is no vault.
    pub fn bare(&self) -> PathBuf {
        self.dir.path().join("bare")
    }

    fn vault(&self) -> PathBuf {
        self.dir.path().join("vault")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn key_file(&self) -> PathBuf {
        self.dir.path().join("key.json")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.mounted && self.unmount().is_err() {
            // Whatever the reason was, the directory can't go before the mount. An error says that
            // nothing is mounted.
            let _ = sys::detach(&self.mountpoint());
        }
        if let Err(error) = fs::remove_dir_all(self.dir.path()) {
            warn_user(&format!("{} could not be removed: {error}", self.dir.path().shown()));
        }
    }
}
