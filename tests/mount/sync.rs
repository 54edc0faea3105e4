//! What sync(1) and its calls ask of the daemon.

use std::fs;
use std::process::Command;

use crate::common::{Mounted, run};

each_cache!(sync_of_a_file_is_an_fsync_and_syncfs_is_none);

/// As semantics.md says: the kernel tells of a syncfs(2) nobody but virtiofs.
fn sync_of_a_file_is_an_fsync_and_syncfs_is_none(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"content").unwrap();
    run(Command::new("sync").arg("--file-system").arg(&path)).ok();
    assert_eq!(mount.operations("fsync"), 0);
    run(Command::new("sync").arg(&path)).ok();
    assert_eq!(mount.operations("fsync"), 1);
    run(Command::new("sync").arg(mount.path())).ok();
    assert_eq!(mount.operations("fsyncdir"), 1);
}
