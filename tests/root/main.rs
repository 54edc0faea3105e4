//! What several users may expect of one mount: root only, since root alone can become others.

#[path = "../common/mod.rs"]
mod common;

mod access;
mod capabilities;
mod cgroup;
mod devices;
mod directories;
mod forget;
mod frozen_disk;
mod full_disk;
mod generations;
mod idle;
mod inherited;
mod lost_writes;
mod memory;
mod mount_program;
mod mounted_below;
mod names_and_holds;
mod namespaces;
mod no_sharing;
mod non_root_mount;
mod odd_backing;
mod ownership;
mod privileges;
mod read_only_vault;
mod set_id;
mod slow_disk;
mod slow_end;
#[path = "../common/small_disk.rs"]
mod small_disk;

use std::path::Path;

use common::{Mounted, Scratch, User, Vault, require_root};

/// Three who have nothing to do with each other.
fn alice() -> User {
    User::new(41_001)
}

fn bob() -> User {
    User::new(41_002)
}

fn carol() -> User {
    User::new(41_003)
}

/// One whom /etc/passwd knows, since fusermount3 asks for the name.
fn nobody() -> User {
    User { uid: 65_534, gid: 65_534, groups: vec![65_534] }
}

/// A mount that every user may enter, on both kinds of cache in turn.
fn each_shared_mount(test: impl Fn(Mounted)) {
    require_root();
    for options in [&["--allow-other"][..], &["--allow-other", "--no-writeback"]] {
        let mount = Vault::init().shared().mount(options);
        open_to_all(mount.path());
        test(mount);
    }
}

/// Lets every user make entries in a directory. Not sticky: what the kernel lets happen in a sticky
/// one depends on the sysctls fs.protected_*, which differ from machine to machine.
fn open_to_all(dir: &Path) {
    rustix::fs::chmod(dir, 0o777.into()).expect("chmod");
}

/// Does the same on the bare filesystem and on a mount, of each kind, and wants the same answers:
/// "what passes on ext4 passes here" for all that is a matter of permission.
fn as_on_the_bare_filesystem<T: PartialEq + std::fmt::Debug>(
    act: impl Fn(&Path) -> Vec<(String, T)>,
) {
    require_root();
    let scratch = Scratch::new();
    let bare = scratch.make_dir("bare");
    open_to_all(&bare);
    let expected = act(&bare);
    each_shared_mount(|mount| {
        let found = act(mount.path());
        let different: Vec<_> =
            expected.iter().zip(&found).filter(|(right, ours)| right != ours).collect();
        assert!(
            different.is_empty() && expected.len() == found.len(),
            "(expected, found) of {} cases: {different:#?}",
            expected.len()
        );
    });
}
