//! Mounts whose daemon has died: every access to them fails with ENOTCONN until they are unmounted.

use std::path::Path;

use crate::control::SocketPath;
use crate::service::failure::{Context, Exit, Failure, warn_user};
use crate::service::paths::mount_table;
use crate::sys::{self, Show, UnmountError};

/// Takes away the stale mounts of vaults on a mount point, and the sockets of their daemons.
///
/// # Errors
/// [`Exit::Mount`] where one can't be unmounted.
pub fn recover(mountpoint: &Path) -> Result<(), Failure> {
    let path = mountpoint.shown();
    while let Some(stale) = mount_table()?.vault_at(mountpoint)
        && sys::is_stale(mountpoint)
    {
        match sys::detach(mountpoint) {
            // Another process was first.
            Err(UnmountError::NotMounted) => continue,
            ended => ended.context(Exit::Mount, || {
                format!("the stale mount on {path} can't be taken away")
            })?,
        }
        SocketPath::clear_stale(&stale);
        warn_user(&format!("recovered {path}: the daemon of an earlier mount had died"));
    }
    Ok(())
}
