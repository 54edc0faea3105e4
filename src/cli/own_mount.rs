//! The mount that a daemon has made, and takes away again.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use crate::fuse::MountId;
use crate::sys::{self, Device, MountRequest, MountTable, MountedVault, Show, UnmountError};

use super::exit::{Exit, Failure};
use super::mount::Plan;
use super::umount::{list, look};

/// The mount that this daemon made.
pub struct OwnMount {
    mountpoint: PathBuf,
    vault: PathBuf,
    device: Device,
}

impl OwnMount {
    /// Makes the mount of a plan, and the device on which the kernel waits for the handshake.
    ///
    /// # Errors
    /// [`Exit::Mount`]; nothing is mounted then.
    pub fn make(plan: &Plan) -> Result<(Self, OwnedFd), Failure> {
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
        match found {
            Some(MountedVault { mountpoint, vault, device: number, .. }) => {
                Ok((Self { mountpoint, vault, device: number }, device))
            }
            None => {
                // What can't be told from a later mount must go now, if it is there at all.
                let _ = sys::unmount(mountpoint, true);
                Err(failed("the mount was gone at once"))
            }
        }
    }

    /// Its number.
    pub fn device(&self) -> Device {
        self.device
    }

    /// What its session needs to know of it.
    pub fn id(&self) -> MountId {
        let device = rustix::fs::makedev(self.device.major, self.device.minor);
        MountId { path: self.mountpoint.clone(), device }
    }

    /// Whether it is still what lies on its mount point. Device numbers are used again, but not
    /// for the same vault, whose lock this daemon holds.
    fn is_there(&self) -> bool {
        let on_it = MountTable::read().ok().and_then(|table| table.vault_at(&self.mountpoint));
        on_it.is_some_and(|mounted| mounted.device == self.device && mounted.vault == self.vault)
    }

    /// Frees it from the limits of a FUSE mount, as far as that is allowed. After the handshake.
    pub fn tune(&self) {
        let refused: Vec<_> = sys::tune(self.device)
            .into_iter()
            .map(|refused| format!("{} ({})", refused.setting, refused.error))
            .collect();
        if !refused.is_empty() {
            let refused = refused.join(", ");
            log::info!("the kernel's limits on the mount stay as they are: {refused}");
        }
    }

    /// Unmounts; if somebody is inside, takes the mount point away and lets them finish.
    pub fn take_away(&self) {
        if !self.is_there() {
            log::info!("unmounted already; waiting for those who are still inside");
            return;
        }
        let shown = self.mountpoint.shown();
        match sys::unmount(&self.mountpoint, false) {
            Ok(()) | Err(UnmountError::NotMounted) => {
                let (vault, device) = (self.vault.clone(), self.device);
                let elsewhere = look(move || sys::holders_elsewhere(&vault, device));
                if !elsewhere.is_empty() {
                    let holders = list(&elsewhere);
                    log::warn!("{shown} is unmounted here, and goes on for {holders}");
                }
            }
            Err(error) => {
                let holders = match error {
                    UnmountError::Busy => {
                        let (at, device) = (self.mountpoint.clone(), self.device);
                        list(&look(move || sys::holders(&at, device)))
                    }
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
    pub fn leave(&self) {
        if self.is_there()
            && let Err(error) = sys::unmount(&self.mountpoint, true)
        {
            log::error!("{} can't be unmounted: {error}", self.mountpoint.shown());
        }
    }
}
