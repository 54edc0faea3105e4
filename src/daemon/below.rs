//! Nothing that the daemon needs may lie below its own mount point: an answer would wait for
//! itself, and neither SIGTERM nor umount would end that.

use std::path::{Path, PathBuf};

use crate::control::SocketPath;
use crate::daemon::mountpoint::lies_in;
use crate::daemon::options::Options;
use crate::keys::KeyFile;
use crate::service::failure::{Exit, Failure};
use crate::service::paths::would_be;
use crate::service::trail_keeping::claimed_directory;
use crate::service::vault;
use crate::store::default_place;
use crate::sys::Show;

/// Looks where the daemon's files lie, or would be made, before anything is made or mounted. Links
/// are followed, also those that lead nowhere yet, and directories compared by device and inode, so
/// that bind mounts hide nothing.
///
/// # Errors
/// [`Exit::Mount`] for what lies below the mount point; [`Exit::Usage`] for a trail that is named
/// there, and for one in the vault, where it would not be sealed.
pub fn refuse(vault: &Path, mountpoint: &Path, options: &Options) -> Result<(), Failure> {
    for (what, path, remedy) in needed(vault, options)? {
        let real = would_be(&path);
        let (shown, below) = (path.shown(), mountpoint.shown());
        if lies_in(&real, mountpoint) {
            let message = format!(
                "{what} {shown} would lie below the mount point {below}, where the daemon waits \
                 for itself: {remedy}"
            );
            let is_named = what == TRAIL && options.trail.directory.is_some();
            let exit = if is_named { Exit::Usage } else { Exit::Mount };
            return Err(Failure::new(exit, message));
        }
        if what == TRAIL && lies_in(&real, vault) {
            let message = format!("the trail can't lie in the vault: {shown} does; {remedy}");
            return Err(Failure::new(Exit::Usage, message));
        }
    }
    Ok(())
}

const TRAIL: &str = "the trail";

/// What the daemon opens by path while it serves, with what to do where it can't be there.
fn needed(
    vault: &Path,
    options: &Options,
) -> Result<Vec<(&'static str, PathBuf, &'static str)>, Failure> {
    let id = vault::describe(vault)?.vault;
    let user = rustix::process::geteuid().as_raw();
    let mut needed = Vec::new();
    let mut add = |what, path: Option<PathBuf>, remedy| {
        needed.extend(path.map(|path| (what, path, remedy)));
    };
    let key_file = KeyFile::locate(&id, options.key_file.as_deref()).ok();
    add("the key file", key_file, "keep it elsewhere and name it with --key-file");
    let passphrase = options.unlock.passphrase_file.clone();
    add("the passphrase file", passphrase, "keep it elsewhere and name it with --passphrase-file");
    add("the log file", options.log_file.clone(), "name another place with --log-file");
    if !options.trail.off {
        // Where there is no place for it, the mount goes on without, or says why it does not.
        let directory = claimed_directory(vault, options.trail.directory.as_deref()).ok();
        add(TRAIL, directory, "name another place with --trail, or keep none with --no-trail");
        let syslog = options.trail.syslog().map(Path::to_owned);
        add("the socket of syslog", syslog, "name another one with --trail-syslog");
    }
    let record = default_place();
    add("what this machine knows of the vault", record, "set XDG_STATE_HOME to another place");
    let socket = SocketPath::of(vault, user).ok().map(|place| place.path().to_owned());
    add("the control socket", socket, "mount the vault on another directory");
    Ok(needed)
}
