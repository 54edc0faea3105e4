//! Which files a daemon needs while it serves.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::control::SocketPath;
use crate::daemon::plan::Plan;
use crate::daemon::trail;
use crate::service::keys::Keys;
use crate::store::default_place;
use crate::sys::{Device, Reach};

/// What the daemon of a plan opens by path from now on. Directories that it would make are made: what
/// is not there can't be reached later. No trail is made where it was `foreign`.
pub fn reach(plan: &Plan, keys: &Keys, foreign: Option<&str>, device: Device) -> Reach {
    let mut trees = vec![plan.vault.clone()];
    // Where a link leads to a key file in another directory, that is written.
    let real = keys.path.canonicalize().ok();
    let key_files = [Some(keys.path.as_path()), real.as_deref()].into_iter().flatten();
    trees.extend(key_files.filter_map(Path::parent).map(Path::to_owned));
    trees.extend(default_place().into_iter().chain(trail::place(plan, keys, foreign)).map(made));
    let user = rustix::process::geteuid().as_raw();
    let place = SocketPath::of(&plan.vault, user).ok().filter(|place| {
        // The server reports why the socket can't be made.
        place.prepare(plan.options.admin_group.is_some()).is_ok()
    });
    let sockets = place.and_then(|place| place.path().parent().map(Path::to_owned));
    Reach {
        trees,
        sockets: sockets.into_iter().collect(),
        // The log's time zone, memory limits, the power supply, and callers.
        reads: ["/etc/localtime", "/sys", "/proc"].map(PathBuf::from).into(),
        // To have the kernel learn of a length, where it lost what was written.
        truncates: Some(plan.mountpoint.path.clone()),
        writes: vec![format!("/sys/class/bdi/{device}").into(), "/dev/null".into()],
    }
}

fn made(directory: PathBuf) -> PathBuf {
    // Its user reports why it can't be made.
    let _ = DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    directory
}
