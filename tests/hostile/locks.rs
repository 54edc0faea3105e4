//! Locks that somebody holds who may not mount the vault.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;

use rustix::fs::{FlockOperation, flock};

use crate::common::{User, Vault, require_root};

/// One who may read the vault's directory, and all that they can open in it.
#[test]
fn a_reader_of_the_vault_blocks_nobody() {
    require_root();
    let vault = Vault::init();
    let user = User { uid: 65_534, gid: 65_534, groups: vec![65_534] };
    fs::set_permissions(vault.path(), Permissions::from_mode(0o755)).unwrap();
    let own = vault.path().join(".atrest");
    let own_files = fs::read_dir(&own).unwrap().map(|entry| entry.unwrap().path());
    let paths: Vec<_> = own_files.chain([vault.path(), own.clone(), vault.mountpoint()]).collect();
    let held: Vec<File> = paths
        .into_iter()
        .filter_map(|path| user.run(|| File::open(path)).ok())
        .inspect(|file| flock(file, FlockOperation::NonBlockingLockExclusive).unwrap())
        .collect();
    assert_eq!(held.len(), 2, "the vault and the mount point, and nothing below .atrest");
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"x").unwrap();
    mount.unmount();
    vault.run(&["key", "rotate"]).ok();
    vault.verify();
}
