//! `atrest umount`: returns when the vault is quiet.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::StatVfsMountFlags;

use crate::cli::status::{is_opened_read_only, of_daemon};
use crate::cli::target::Target;
use crate::control::SocketPath;
use crate::service::failure::{Context, Exit, Failure, warn_user};
use crate::service::mount_lock::{self, MountLock};
use crate::service::paths::mount_table;
use crate::store::Vault;
use crate::sys::{self, Holder, MountedVault, Show, UnmountError};

/// After how long a daemon that still writes back the last of it is spoken of.
const NOTICE_DELAY: Duration = Duration::from_secs(5);
/// How long a daemon may run whose vault's lock is free, before it counts as another's: its number may
/// be one of another PID namespace.
const DAEMON_END_TIMEOUT: Duration = Duration::from_secs(10);
/// How often to look for processes that hold the mount in another mount namespace.
const HOLDER_SCAN_INTERVAL: Duration = Duration::from_secs(1);
/// How long a mount may be busy without a holder that can be found: one may just have left.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Unmount a vault; returns when it is quiet and its lock is free.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where it is mounted
    mountpoint: PathBuf,
}

impl Args {
    /// The arguments for a mount point.
    pub fn of(mountpoint: PathBuf) -> Self {
        Self { mountpoint }
    }
}

/// Unmounts.
///
/// # Errors
/// [`Exit::Mount`] when nothing is mounted there, [`Exit::Busy`] when somebody holds it.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let shown = args.mountpoint.shown();
    let target = Target::find(&args.mountpoint)
        .map_err(|failure| Failure::new(Exit::Mount, failure.message))?;
    let Some(mounted) = &target.mounted else {
        return Err(Failure::new(Exit::Mount, format!("no vault is mounted on {shown}")));
    };
    let mountpoint = mounted.mountpoint.shown();
    // Before it ends: another daemon may serve the vault the moment after.
    let daemon = mount_lock::holder(&target.vault).ok().flatten().and_then(|holder| holder.pid);
    // Where its lock file was replaced, the daemon's status has its process id.
    let daemon = daemon.or_else(|| of_daemon(target.client()?).ok()?.pid);
    if sys::is_stale(&mounted.mountpoint) {
        // Nobody mounts the vault anew meanwhile, whose socket would lie where the dead one does.
        let _lock = MountLock::take(&mounted.vault)?;
        // Another process may have recovered it while this one waited, and mounted the vault anew.
        if is_gone(mounted)? || !sys::is_stale(&mounted.mountpoint) {
            return Ok(Exit::Done);
        }
        match sys::detach(&mounted.mountpoint) {
            Err(UnmountError::NotMounted) if is_gone(mounted)? => {}
            ended => {
                ended.context(Exit::Failed, || {
                    format!("the stale mount on {mountpoint} can't be taken away")
                })?;
                SocketPath::clear_stale(mounted);
                warn_user(&format!("recovered {mountpoint}: its daemon had died"));
            }
        }
        wait_until_free(&target.vault, mounted, daemon)?;
        return Ok(Exit::Done);
    }
    // A vault that was opened to be read leaves no word of its end; a mount that was made read-only
    // since does.
    let flags = rustix::fs::statvfs(&mounted.mountpoint).map(|space| space.f_flag);
    let read_only = flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY))
        && is_opened_read_only(&target).unwrap_or(true);
    unmount(mounted, daemon)?;
    wait_until_free(&target.vault, mounted, daemon)?;
    match Vault::last_end(&target.vault, daemon).filter(|_| !read_only) {
        None => Ok(Exit::Done),
        Some(reason) => {
            let message = match reason.as_str() {
                "" => {
                    "its daemon died before the end, or had no room in the vault for the reason, which its log tells"
                }
                reason => reason,
            };
            let message = format!("unmounted {mountpoint}, which did not end cleanly: {message}");
            Err(Failure::new(Exit::Failed, message))
        }
    }
}

fn unmount(mounted: &MountedVault, daemon: Option<u32>) -> Result<(), Failure> {
    let mountpoint = mounted.mountpoint.shown();
    let started = Instant::now();
    loop {
        match sys::unmount(&mounted.mountpoint) {
            Ok(()) => return Ok(()),
            Err(UnmountError::Busy) => {}
            // It was mounted a moment ago: its daemon, or somebody else, was first.
            Err(UnmountError::NotMounted) if is_gone(mounted)? => return Ok(()),
            // fusermount3 knows the mounts of the calling user alone.
            Err(UnmountError::NotMounted)
                if mounted.user_id != rustix::process::geteuid().as_raw() =>
            {
                let message = format!(
                    "{mountpoint} was mounted by user {}: only that user or root can unmount it",
                    mounted.user_id
                );
                return Err(Failure::new(Exit::Failed, message));
            }
            Err(error @ UnmountError::NotMounted) => {
                return Err(Failure::new(Exit::Mount, format!("{mountpoint}: {error}")));
            }
            Err(error) => {
                return Err(Failure::new(Exit::Failed, format!("{mountpoint}: {error}")));
            }
        }
        let waited = started.elapsed();
        let (at, device) = (mounted.mountpoint.clone(), mounted.device);
        let mut holders = sys::search_holders(move || sys::holders(&at, device));
        // The daemon itself is there for a moment alone, to cut a file to what was written of it.
        holders.retain(
            |holder| !matches!(holder, Holder::Process { pid, .. } if Some(*pid) == daemon),
        );
        if !holders.is_empty() || waited > BUSY_TIMEOUT {
            let message = format!("{mountpoint} is in use by {}", sys::describe_holders(&holders));
            return Err(Failure::new(Exit::Busy, message));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether a mount that there was is in its place no more.
fn is_gone(mounted: &MountedVault) -> Result<bool, Failure> {
    let now = mount_table()?.vault_at(&mounted.mountpoint);
    Ok(now.is_none_or(|now| now.device != mounted.device))
}

/// Waits as long as the daemon lives: on a slow disk it takes what it takes, and whoever is told
/// that it has ended relies on it. Only where the mount goes on in another mount namespace, which
/// may be for ever, that is told instead.
fn wait_until_free(
    directory: &Path,
    mounted: &MountedVault,
    daemon: Option<u32>,
) -> Result<(), Failure> {
    let started = Instant::now();
    let vault = directory.shown();
    let mut pause = Duration::from_millis(1);
    let (mut next_look, mut told) = (HOLDER_SCAN_INTERVAL, false);
    loop {
        let holder = match mount_lock::holder(directory)? {
            Some(holder) => holder.pid,
            // Its lock was exchanged, or it is about to end.
            None if daemon.is_some_and(sys::is_running)
                && started.elapsed() < DAEMON_END_TIMEOUT =>
            {
                daemon
            }
            None => return Ok(()),
        };
        let is_next = daemon.is_some() && holder.is_some() && holder != daemon;
        if is_next {
            return Ok(());
        }
        if started.elapsed() > next_look {
            next_look += HOLDER_SCAN_INTERVAL;
            let (of, device) = (mounted.vault.clone(), mounted.device);
            let elsewhere = sys::search_holders(move || sys::holders_elsewhere(&of, device));
            if !elsewhere.is_empty() {
                let message = format!(
                    "unmounted here, but the vault {vault} is still mounted for {}",
                    sys::describe_holders(&elsewhere)
                );
                return Err(Failure::new(Exit::Busy, message));
            }
        }
        if started.elapsed() > NOTICE_DELAY && !told {
            told = true;
            let daemon = mount_lock::named(holder);
            warn_user(&format!(
                "unmounted; waiting until {daemon} has written the last of the vault {vault}"
            ));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Device;

    /// As where its daemon was told to end in the moment before.
    #[test]
    fn a_mount_that_is_gone_by_then_is_unmounted() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let mounted = MountedVault {
            mountpoint: directory.path().to_owned(),
            vault: directory.path().to_owned(),
            device: Device { major: 0, minor: 0 },
            user_id: 0,
        };
        unmount(&mounted, None).unwrap();
    }
}
