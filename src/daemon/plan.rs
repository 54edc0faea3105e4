//! The plan of a mount, checked before anything is made.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::daemon::below;
use crate::daemon::logging::Destination;
use crate::daemon::mountpoint::Mountpoint;
use crate::daemon::options::Options;
use crate::service::failure::{Context, Exit, Failure};
use crate::service::mount_lock::{self, MountLock};
use crate::service::paths::{mount_table, resolve};
use crate::service::vault;
use crate::store::Holder;
use crate::sys::Show;

/// The plan of a mount, checked as far as that goes without the vault's keys.
#[derive(Debug)]
pub struct Plan {
    /// The vault's directory.
    pub vault: PathBuf,
    /// Where it goes.
    pub mountpoint: Mountpoint,
    /// How.
    pub options: Options,
    /// Whether the daemon stays with the terminal.
    pub foreground: bool,
}

impl Plan {
    /// The plan of a mount, and the lock under which it is carried out.
    ///
    /// # Errors
    /// [`Exit::Vault`], [`Exit::Mount`] and [`Exit::Busy`] where it can't be carried out.
    pub fn of(
        vault: &Path,
        mountpoint: &Path,
        options: Options,
        foreground: bool,
    ) -> Result<(Self, MountLock), Failure> {
        let vault = resolve(vault)
            .context(Exit::Vault, || format!("the vault {} can't be used", vault.shown()))?;
        vault::describe(&vault)?;
        if options.allow_other {
            require_closed(&vault)?;
        }
        let lock = MountLock::take(&vault)?;
        let mountpoint = Mountpoint::check(mountpoint, &vault)?;
        refuse_second_mount(&vault)?;
        below::refuse(&vault, &mountpoint.path, &options)?;
        Ok((Self { vault, mountpoint, options, foreground }, lock))
    }

    /// Where the log goes.
    pub fn log(&self) -> Destination<'_> {
        match &self.options.log_file {
            Some(path) => Destination::File(path),
            None if self.foreground => Destination::Stderr,
            None => Destination::Syslog,
        }
    }
}

/// Who else can reach the vault's directory passes the daemon by, and with it all that the mount
/// keeps from them.
fn require_closed(vault: &Path) -> Result<(), Failure> {
    let found = std::fs::metadata(vault)
        .context(Exit::Vault, || format!("the vault {} can't be used", vault.shown()))?;
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    let shown = vault.shown();
    let (what, command) = if owner != user {
        (format!("user {owner} owns the vault {shown}"), format!("chown {user} {shown}"))
    } else if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o777;
        let what = format!("others can reach the directory of the vault {shown} (mode {mode:04o})");
        (what, format!("chmod 700 {shown}"))
    } else {
        return Ok(());
    };
    let message =
        format!("{what}, and could change what the mount keeps from them: run `{command}` first");
    Err(Failure::new(Exit::Vault, message))
}

/// The lock would refuse it as well; here it can be said where the other mount is.
fn refuse_second_mount(vault: &Path) -> Result<(), Failure> {
    let holder = mount_lock::holder(vault)?;
    let Some(Holder { pid }) = holder else { return Ok(()) };
    let mounted = mount_table()?.mounts_of(vault).last();
    let (vault, pid) = (vault.shown(), mount_lock::named(pid));
    let message = match mounted {
        Some(mounted) => {
            let place = mounted.mountpoint.shown();
            format!("the vault {vault} is already mounted, on {place} by {pid}")
        }
        None => format!("the vault {vault} is in use by {pid}"),
    };
    Err(Failure::new(Exit::Busy, message))
}
