//! The mount that a daemon has made, and has its monitor take away again.

use std::os::fd::OwnedFd;

use crate::daemon::monitor::{Made, Monitor, NotUnmounted};
use crate::daemon::plan::Plan;
use crate::fuse::MountId;
use crate::service::failure::{Exit, Failure};
use crate::sys::{self, Device, MountRequest, MountTable, MountedVault, Show};

/// The mount that this daemon made.
pub struct MountGuard {
    made: Made,
    monitor: Monitor,
}

impl MountGuard {
    /// Makes the mount of a plan, and the device on which the kernel waits for the handshake.
    /// `monitor` unmounts it.
    ///
    /// # Errors
    /// [`Exit::Mount`]; nothing is mounted then.
    pub fn make(plan: &Plan, monitor: Monitor) -> Result<(Self, OwnedFd), Failure> {
        let mountpoint = plan.mountpoint.path.as_path();
        let request = MountRequest {
            vault: &plan.vault,
            mountpoint,
            allow_other: plan.options.allow_other,
            check_permissions: plan.options.check_permissions
                || plan.options.allow_other
                || !rustix::process::geteuid().is_root(),
            flags: plan.options.flags,
        };
        let failed = |what: &str| {
            Failure::new(Exit::Mount, format!("can't mount on {}: {what}", mountpoint.shown()))
        };
        let device = sys::mount(&request).map_err(|error| failed(&error.to_string()))?;
        let found = MountTable::read().ok().and_then(|table| table.vault_at(mountpoint));
        let made = found.map(|found| {
            let MountedVault { mountpoint, vault, device, .. } = found;
            Made::new(mountpoint, vault, device)
        });
        let told = match &made {
            Some(made) => monitor.tell(made).map_err(|error| format!("the monitor: {error}")),
            None => Err("the mount was gone at once".to_owned()),
        };
        match (made, told) {
            (Some(made), Ok(())) => Ok((Self { made, monitor }, device)),
            (_, told) => {
                // A mount that can't be distinguished from a later one must go now, if it exists at all.
                let _ = sys::detach(mountpoint);
                Err(failed(&told.err().unwrap_or_default()))
            }
        }
    }

    /// Its number.
    pub fn device(&self) -> Device {
        self.made.device()
    }

    /// What its session needs to know of it.
    pub fn id(&self) -> MountId {
        let Device { major, minor } = self.device();
        MountId { path: self.made.mountpoint(), device: rustix::fs::makedev(major, minor) }
    }

    /// Frees it from the limits of a FUSE mount, as far as that is allowed. After the handshake.
    pub fn tune(&self) {
        let refused: Vec<_> = sys::tune(self.device())
            .into_iter()
            .map(|refused| format!("{} ({})", refused.setting, refused.error))
            .collect();
        if !refused.is_empty() {
            let refused = refused.join(", ");
            log::info!("the kernel's limits on the mount stay as they are: {refused}");
        }
    }

    /// Unmounts; if somebody is inside, takes the mount point away and lets them finish.
    ///
    /// # Errors
    /// Where it can't be unmounted: only the end of this process frees the users of the mount.
    pub fn unmount_or_detach(&self) -> Result<(), NotUnmounted> {
        if !self.made.is_there() {
            log::info!("unmounted already; waiting for those who are still inside");
            return Ok(());
        }
        let mountpoint = self.made.mountpoint();
        let shown = mountpoint.shown();
        match self.monitor.unmount(false) {
            Ok(()) | Err(NotUnmounted::NotMounted) => {
                let holders = self.monitor.holders_elsewhere();
                if !holders.is_empty() {
                    log::warn!("{shown} is unmounted here, and goes on for {holders}");
                }
            }
            Err(NotUnmounted::Busy) => {
                let holders = self.monitor.holders();
                log::warn!("{shown} is in use by {holders}: unmounted as soon as they leave");
                self.try_detach()?;
            }
            Err(error @ NotUnmounted::Failed(_)) => {
                log::warn!("{shown} can't be unmounted at once: {error}");
                self.try_detach()?;
            }
            Err(error @ NotUnmounted::NoMonitor(_)) => return Err(error),
        }
        Ok(())
    }

    /// Unmounts what nobody answers on any more: after a session that failed, or never began.
    pub fn detach(&self) {
        if self.made.is_there()
            && let Err(error) = self.try_detach()
        {
            log::error!("{} stays mounted: {error}", self.made.mountpoint().shown());
        }
    }

    fn try_detach(&self) -> Result<(), NotUnmounted> {
        match self.monitor.unmount(true) {
            Ok(()) | Err(NotUnmounted::NotMounted) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
