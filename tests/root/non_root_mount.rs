//! A vault of a user who is not root, mounted by fusermount3.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::time::Duration;

use crate::common::files::{errno, open_rw, owner};
use crate::common::mounted::{daemons_of, is_mounted};
use crate::common::{
    Allow, Mapping, Vault, pattern, random_bytes, require, require_root, run, wait_until,
};
use crate::{bob, nobody};

/// A vault of nobody's. What udev does on any ordinary machine must hold: all may open /dev/fuse.
fn vault() -> Vault {
    require_root();
    require("fusermount3");
    let mode = fs::metadata("/dev/fuse").expect("/dev/fuse").mode();
    assert!(
        mode & 0o006 == 0o006,
        "this test needs a /dev/fuse that users may open (chmod 666 /dev/fuse); scripts/test.sh sees to that"
    );
    Vault::init_as(&nobody())
}

#[test]
fn a_user_mounts_works_and_unmounts() {
    let vault = vault();
    for options in [&[][..], &["--no-writeback"]] {
        let mount = vault.mount(options);
        let user = nobody();
        user.run(|| {
            fs::create_dir(mount.join("dir")).unwrap();
            fs::write(mount.join("dir/file"), pattern(0, 100_000)).unwrap();
            fs::write(mount.join("small"), b"small").unwrap();
            fs::rename(mount.join("small"), mount.join("dir/moved")).unwrap();
            assert_eq!(fs::read(mount.join("dir/file")).unwrap(), pattern(0, 100_000));
            assert_eq!(owner(mount.join("dir/file")), (user.uid, user.gid));
        });
        assert_eq!(owner(vault.path().join("dir/file")), (user.uid, user.gid));
        // Nobody else may look, not even root.
        assert_eq!(errno(fs::metadata(mount.join("dir"))), libc::EACCES);
        bob().run(|| assert_eq!(errno(fs::read_dir(mount.path())), libc::EACCES));
        let status = mount.status_json();
        assert_eq!(status["mounted"], true, "{status}");
        let mount = mount.remount(options);
        user.run(|| {
            assert_eq!(fs::read(mount.join("dir/file")).unwrap(), pattern(0, 100_000));
            assert_eq!(fs::read(mount.join("dir/moved")).unwrap(), b"small");
            fs::remove_dir_all(mount.join("dir")).unwrap();
        });
    }
}

#[test]
fn the_root_of_a_mount_is_the_users_who_has_the_vault_now() {
    // One whom /etc/passwd knows, since fusermount3 asks for the name.
    let (vault, user) = (Vault::init_as(&bob()).given_to(&nobody()), nobody());
    let mount = vault.mount(&[]);
    user.run(|| {
        assert_eq!(owner(mount.path()), (user.uid, user.gid));
        fs::write(mount.join("file"), b"x").unwrap();
        fs::set_permissions(mount.path(), fs::Permissions::from_mode(0o700)).unwrap();
    });
    mount.unmount();
}

/// With the writeback cache the kernel's own flusher writes as nobody in particular, and the
/// request may carry another uid than the mount's owner.
#[test]
fn flushes_by_the_kernel_are_let_in() {
    let vault = vault();
    let mount = vault.mount(&[]);
    nobody().run(|| {
        fs::write(mount.join("large"), random_bytes(1, 20 << 20)).unwrap();
        let file = open_rw(mount.join("mapped"));
        file.set_len(2 << 20).unwrap();
        let mut mapping = Mapping::shared(&file, 2 << 20).unwrap();
        mapping.bytes_mut().copy_from_slice(&random_bytes(2, 2 << 20));
    });
    // sync(2) by root flushes with root's hands.
    rustix::fs::sync();
    let mount = mount.remount(&[]);
    nobody().run(|| {
        assert!(fs::read(mount.join("large")).unwrap() == random_bytes(1, 20 << 20));
        assert!(fs::read(mount.join("mapped")).unwrap() == random_bytes(2, 2 << 20));
    });
}

/// The daemon has no more rights than the owner, and must still read what it writes into.
#[test]
fn files_that_their_owner_may_not_read_or_write() {
    let vault = vault();
    for options in [&[][..], &["--no-writeback"]] {
        let mount = vault.mount(options);
        let path = |bits: u32| mount.join(format!("{bits:o}"));
        nobody().run(|| {
            for bits in [0o444, 0o200, 0o000] {
                let mut new = OpenOptions::new();
                let file = new
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .mode(bits)
                    .open(path(bits))
                    .unwrap();
                file.write_all_at(&pattern(0, 10_000), 0).unwrap();
                file.write_all_at(b"inside", 4000).unwrap();
                file.set_len(9000).unwrap();
                file.sync_all().unwrap();
                drop(file);
                assert_eq!(fs::metadata(path(bits)).unwrap().len(), 9000);
            }
            assert_eq!(errno(OpenOptions::new().write(true).open(path(0o444))), libc::EACCES);
            assert_eq!(errno(fs::read(path(0o200))), libc::EACCES);
            assert_eq!(errno(fs::read(path(0o000))), libc::EACCES);
            let write_only = OpenOptions::new().write(true).open(path(0o200)).unwrap();
            write_only.write_all_at(b"again", 5000).unwrap();
            drop(write_only);
            // A file that is open while its mode goes away.
            let kept = open_rw(mount.join("kept"));
            fs::set_permissions(mount.join("kept"), PermissionsExt::from_mode(0o0)).unwrap();
            kept.write_all_at(&pattern(0, 20_000), 0).unwrap();
            fs::rename(path(0o000), mount.join("renamed")).unwrap();
        });
        let mount = mount.remount(options);
        nobody().run(|| {
            for (name, again) in [("444", false), ("200", true), ("renamed", false)] {
                let path = mount.join(name);
                fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
                let mut expected = pattern(0, 9000);
                expected[4000..4006].copy_from_slice(b"inside");
                if again {
                    expected[5000..5005].copy_from_slice(b"again");
                }
                assert_eq!(fs::read(&path).unwrap(), expected, "{name}");
                fs::remove_file(&path).unwrap();
            }
            fs::set_permissions(mount.join("kept"), PermissionsExt::from_mode(0o600)).unwrap();
            assert_eq!(fs::read(mount.join("kept")).unwrap(), pattern(0, 20_000));
            fs::remove_file(mount.join("kept")).unwrap();
        });
    }
}

#[test]
fn a_directory_that_its_owner_may_not_enter() {
    let vault = vault();
    let mount = vault.mount(&[]);
    nobody().run(|| {
        let dir = mount.join("dir");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("file"), b"x").unwrap();
        let set = |bits| fs::set_permissions(&dir, PermissionsExt::from_mode(bits)).unwrap();
        set(0o000);
        assert_eq!(errno(fs::read_dir(&dir)), libc::EACCES);
        assert_eq!(errno(fs::read(dir.join("file"))), libc::EACCES);
        set(0o300);
        assert_eq!(errno(fs::read_dir(&dir)), libc::EACCES);
        assert_eq!(fs::read(dir.join("file")).unwrap(), b"x");
        fs::write(dir.join("new"), b"y").unwrap();
        set(0o500);
        assert_eq!(errno(fs::write(dir.join("other"), b"z")), libc::EACCES);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        set(0o700);
        fs::remove_dir_all(&dir).unwrap();
    });
}

#[test]
fn a_killed_daemon_is_recovered_by_mount_and_by_umount() {
    let vault = vault();
    let mut mount = vault.mount(&[]);
    nobody().run(|| fs::write(mount.join("file"), pattern(0, 50_000)).unwrap());
    mount.kill9();
    let mut mount = mount.remount(&[]);
    mount.allow(Allow::Warnings);
    nobody().run(|| assert_eq!(fs::read(mount.join("file")).unwrap(), pattern(0, 50_000)));
    mount.kill9();
    mount.try_unmount().ok();
    assert!(!is_mounted(&vault.mountpoint()));
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Warnings);
    nobody().run(|| assert_eq!(fs::read(mount.join("file")).unwrap(), pattern(0, 50_000)));
}

/// What a desktop's file manager does, and what an administrator does.
#[test]
fn an_unmount_from_outside_ends_the_daemon() {
    let vault = vault();
    for by_root in [false, true] {
        let mut mount = vault.mount(&[]);
        nobody().run(|| fs::write(mount.join("file"), pattern(0, 50_000)).unwrap());
        let mut unmount =
            std::process::Command::new(if by_root { "umount" } else { "fusermount3" });
        if !by_root {
            use std::os::unix::process::CommandExt;
            unmount.arg("-u").uid(nobody().uid).gid(nobody().gid);
        }
        run(unmount.arg(mount.path())).ok();
        mount.forget();
        let gone = wait_until(Duration::from_secs(20), || {
            daemons_of(&vault.mountpoint()).is_empty().then_some(())
        });
        assert!(gone.is_some(), "the daemon outlives its mount (by root: {by_root})");
        let again = vault.mount(&[]);
        nobody().run(|| assert_eq!(fs::read(again.join("file")).unwrap(), pattern(0, 50_000)));
    }
}

/// `user_allow_other` in /etc/fuse.conf decides; where it is not set, the mount says so.
#[test]
fn allow_other_by_a_user_is_fuses_to_grant() {
    let vault = vault();
    let conf = fs::read_to_string("/etc/fuse.conf").unwrap_or_default();
    let granted = conf.lines().any(|line| line.trim() == "user_allow_other");
    match vault.try_mount(&["--allow-other"]) {
        Ok(mount) => {
            assert!(granted);
            nobody().run(|| fs::write(mount.join("file"), b"x").unwrap());
            assert_eq!(fs::read(mount.join("file")).unwrap(), b"x");
        }
        Err(outcome) => {
            assert!(!granted, "{outcome}");
            assert!(
                outcome.stderr.contains("user_allow_other"),
                "no word of the setting: {outcome}"
            );
            assert!(!is_mounted(&vault.mountpoint()));
        }
    }
}

/// A user whose vault belongs to somebody else learns so in one sentence.
#[test]
fn a_vault_of_somebody_else_is_refused() {
    let vault = vault();
    let mut command = vault.command(&["mount"]);
    command.arg(vault.path()).arg(vault.mountpoint()).arg("--log-file").arg("/dev/null");
    use std::os::unix::process::CommandExt;
    command.uid(bob().uid).gid(bob().gid);
    let outcome = run(&mut command).fails();
    assert_eq!(outcome.stderr.trim().lines().count(), 1, "{outcome}");
    assert!(!is_mounted(&vault.mountpoint()));
}

/// fusermount3 knows no mounts of others, which does not mean that there is none.
#[test]
fn another_user_is_told_whose_mount_it_is() {
    require_root();
    require("fusermount3");
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let scratch = vault.scratch().path();
    fs::set_permissions(scratch, PermissionsExt::from_mode(0o755)).unwrap();
    let copy = scratch.join("atrest");
    run(std::process::Command::new("cp").arg(crate::common::vault::binary()).arg(&copy)).ok();
    let mut umount = std::process::Command::new(&copy);
    umount.arg("umount").arg(mount.path()).current_dir("/");
    std::os::unix::process::CommandExt::uid(&mut umount, nobody().uid);
    let told = run(&mut umount);
    assert!(!told.success(), "{told}");
    assert!(told.stderr.contains("was mounted by user 0"), "{told}");
    mount.unmount();
}
