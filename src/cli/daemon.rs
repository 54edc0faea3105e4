//! The daemon: from the open vault to its clean end.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::thread;

use crate::fs::Fs;
use crate::fuse::{Session, Settings};
use crate::store::Access;
use crate::sys::{
    self, Background, BlockedSignals, Device, MountError, MountRequest, MountTable, MountedVault,
    UnmountError,
};

use super::control::{Place, Server};
use super::exit::{Context, Exit, Failure};
use super::logging;
use super::mount::Plan;
use super::served::Served;
use super::umount::list;
use super::vault;

/// Opens the vault, mounts it, and answers until it is unmounted. With `background` the process
/// leaves its terminal once the mount is made.
///
/// # Errors
/// What kept it from being mounted, or from ending cleanly.
pub fn run(plan: &Plan, background: Option<Background>) -> Result<Exit, Failure> {
    sys::prepare_daemon();
    logging::start(plan.log())?;
    let access = if plan.options.flags.read_only { Access::ReadOnly } else { Access::ReadWrite };
    let id = vault::describe(&plan.vault)?.vault;
    let keys = vault::keys(&id, plan.options.key_file.as_deref())?;
    let fs = Arc::new(vault::open(&plan.vault, &keys, access)?);
    let served = vault::reread(&keys, &fs)
        .and_then(|()| plan.mountpoint.recover())
        .and_then(|()| serve(plan, &fs, keys, background));
    let closed = fs.close().map_err(|error| vault::failure(&plan.vault, error));
    if let Err(failure) = &closed {
        log::error!("{failure}: what was fsynced is safe, but this mount did not end cleanly");
    } else {
        log::info!("closed the vault {}", plan.vault.display());
    }
    served.and(closed).map(|()| Exit::Done)
}

fn serve(
    plan: &Plan,
    fs: &Arc<Fs>,
    keys: vault::Keys,
    background: Option<Background>,
) -> Result<(), Failure> {
    let mountpoint = plan.mountpoint.path.as_path();
    // Before any thread starts, so that all of them leave the signals to the one that waits.
    let signals = BlockedSignals::block()?;
    let request = MountRequest {
        vault: &plan.vault,
        mountpoint,
        allow_other: plan.options.allow_other,
        flags: plan.options.flags,
    };
    let device = sys::mount(&request).map_err(|error| mount_failure(mountpoint, &error))?;
    let mount = Arc::new(Mount::find(mountpoint)?);
    let served = answer(plan, fs, keys, background, device, signals, &mount);
    mount.leave();
    served
}

fn answer(
    plan: &Plan,
    fs: &Arc<Fs>,
    keys: vault::Keys,
    background: Option<Background>,
    device: OwnedFd,
    signals: BlockedSignals,
    mount: &Arc<Mount>,
) -> Result<(), Failure> {
    let mountpoint = plan.mountpoint.path.as_path();
    let settings = Settings { writeback: !plan.options.no_writeback, spin: spin() };
    let session = Session::start(device, Arc::clone(fs), settings)
        .or_fail(Exit::Mount, || format!("{}: the FUSE handshake", mountpoint.display()))?;
    mount.tune();
    let served = Served::new(plan, Arc::clone(fs), keys, Arc::clone(session.connection()));
    let server = listen(&plan.vault, served);
    unmount_on_signal(signals, Arc::clone(mount))?;
    if let Some(background) = background {
        background.detach()?;
    }
    log::info!("mounted {} on {}", plan.vault.display(), mountpoint.display());
    let ended = session.run();
    if let Err(error) = &ended {
        log::error!("{}: the FUSE session failed: {error}", mountpoint.display());
    }
    if let Some(server) = server {
        server.stop();
    }
    ended.or_fail(Exit::Failed, || "the FUSE session".to_owned())
}

fn mount_failure(mountpoint: &Path, error: &MountError) -> Failure {
    let exit = match error {
        MountError::NoDevice
        | MountError::Device(_)
        | MountError::NoHelper
        | MountError::AllowOtherRefused
        | MountError::Helper(_)
        | MountError::Refused(_) => Exit::Mount,
    };
    Failure::new(exit, format!("can't mount on {}: {error}", mountpoint.display()))
}

/// The control socket. A mount without one works; only nobody can ask it anything.
fn listen(vault: &Path, served: Served) -> Option<Server> {
    let user = rustix::process::geteuid().as_raw();
    let listening =
        Place::of(vault, user).and_then(|place| Server::listen(&place, Arc::new(served)));
    listening.inspect_err(|error| log::warn!("there is no control socket: {error}")).ok()
}

fn unmount_on_signal(signals: BlockedSignals, mount: Arc<Mount>) -> io::Result<()> {
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            log::info!("{signal}: unmounting {}", mount.mountpoint.display());
            mount.take_away();
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(|_| ())
}

/// The mount that this daemon made.
struct Mount {
    mountpoint: PathBuf,
    vault: PathBuf,
    device: Device,
}

impl Mount {
    /// The mount that was made a moment ago.
    fn find(mountpoint: &Path) -> Result<Self, Failure> {
        let found = MountTable::read().map(|table| table.vault_at(mountpoint));
        match found {
            Ok(Some(mounted)) => {
                let MountedVault { mountpoint, vault, device, .. } = mounted;
                Ok(Self { mountpoint, vault, device })
            }
            Ok(None) | Err(_) => {
                // Not in the table, it can't be told from a later one, so it must go now; and
                // what can't be found may well be unmounted in vain.
                let _ = sys::unmount(mountpoint, true);
                let shown = mountpoint.display();
                Err(Failure::new(Exit::Mount, format!("the mount on {shown} was gone at once")))
            }
        }
    }

    /// Whether it is still what lies on its mount point. Device numbers are used again, but not
    /// for the same vault, whose lock this daemon holds.
    fn is_there(&self) -> bool {
        let on_it = MountTable::read().ok().and_then(|table| table.vault_at(&self.mountpoint));
        on_it.is_some_and(|mounted| mounted.device == self.device && mounted.vault == self.vault)
    }

    fn tune(&self) {
        for refused in sys::tune(self.device) {
            log::info!("{} stays as it is: {}", refused.setting, refused.error);
        }
    }

    /// Unmounts; if somebody is inside, takes the mount point away and lets them finish.
    fn take_away(&self) {
        if !self.is_there() {
            log::info!("unmounted already; waiting for those who are still inside");
            return;
        }
        let shown = self.mountpoint.display();
        match sys::unmount(&self.mountpoint, false) {
            Ok(()) | Err(UnmountError::NotMounted) => {}
            Err(error) => {
                let holders = match error {
                    UnmountError::Busy => list(&sys::holders(&self.mountpoint, self.device)),
                    error => error.to_string(),
                };
                log::warn!("{shown} is in use by {holders}: unmounted as soon as they leave");
                if let Err(error) = sys::unmount(&self.mountpoint, true) {
                    log::error!("{shown} can't be unmounted: {error}");
                }
            }
        }
    }

    /// Unmounts what nobody answers on any more: after a session that failed, or never began.
    fn leave(&self) {
        if self.is_there()
            && let Err(error) = sys::unmount(&self.mountpoint, true)
        {
            log::error!("{} can't be unmounted: {error}", self.mountpoint.display());
        }
    }
}

/// How long a thread looks out for the next request. With a single processor, whoever makes the
/// requests needs it more.
fn spin() -> Duration {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => Duration::ZERO,
        _ => Duration::from_micros(50),
    }
}
