//! How a vault is to be mounted.

use std::path::PathBuf;

use super::trail::TrailOptions;
use crate::fs::AccessTimes;
use crate::fuse::BusyPoll;
use crate::service::passphrase::UnlockArgs;
use crate::sys::Flags;

/// How a vault is to be mounted, from the switches and from `-o` together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// The flags of the mount itself.
    pub flags: Flags,
    /// When a read moves the time of access.
    pub access_times: AccessTimes,
    /// Users other than the one who mounts may enter.
    pub allow_other: bool,
    /// Modes and owners bind the only user of the mount even if that is root.
    pub check_permissions: bool,
    /// Each write(2) reaches the daemon before it returns.
    pub no_writeback: bool,
    /// Where the key file lies, if not in the default place.
    pub key_file: Option<PathBuf>,
    /// A descriptor is refused what its opener may do no longer.
    pub strict: bool,
    /// What was put back to an older state is mounted.
    pub accept_rollback: bool,
    /// Whose members may ask the daemon too.
    pub admin_group: Option<u32>,
    /// Where its passphrase comes from.
    pub unlock: UnlockArgs,
    /// How long the daemon looks out for the next request.
    pub spin: BusyPoll,
    /// How the trail is kept.
    pub trail: TrailOptions,
    /// A mounted vault gets other flags.
    pub remount: bool,
    /// Where the daemon's log goes, if not to syslog.
    pub log_file: Option<PathBuf>,
}
