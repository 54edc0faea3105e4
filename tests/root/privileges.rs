//! Other users' part in what needs the daemon's privileges: space, locks, the hidden directory.

use std::fs;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::common::files::{errno, open_rw};
use crate::common::pattern;
use crate::{alice, bob, each_shared_mount};

#[test]
fn a_lock_of_one_user_holds_for_another() {
    each_shared_mount(|mount| {
        let path = mount.join("file");
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let file = alice().run(|| open_rw(&path));
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        let refused = bob().run(|| flock(open_rw(&path), FlockOperation::NonBlockingLockExclusive));
        assert_eq!(refused, Err(Errno::WOULDBLOCK));
    });
}

#[test]
fn the_vaults_own_directory_is_hidden_from_all() {
    each_shared_mount(|mount| {
        alice().run(|| {
            assert_eq!(errno(fs::metadata(mount.join(".atrest"))), libc::ENOENT);
            errno(fs::create_dir(mount.join(".atrest")));
            errno(fs::write(mount.join(".atrest"), b"x"));
        });
    });
}

/// A file that one user makes and another fills, and a third removes while both hold it.
#[test]
fn users_share_a_file() {
    each_shared_mount(|mount| {
        let dir = mount.join("shared");
        fs::create_dir(&dir).unwrap();
        rustix::fs::chmod(&dir, 0o777.into()).unwrap();
        let path = dir.join("file");
        let made = alice().run(|| {
            let file = open_rw(&path);
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
                .unwrap();
            file
        });
        bob().run(|| fs::write(&path, pattern(0, 50_000)).unwrap());
        assert_eq!(crate::common::files::read_at(&made, 0, 60_000), pattern(0, 50_000));
        bob().run(|| fs::remove_file(&path).unwrap());
        assert_eq!(crate::common::files::read_at(&made, 0, 60_000), pattern(0, 50_000));
        drop(made);
    });
}
