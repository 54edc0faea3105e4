//! What is made belongs to whoever made it.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::thread;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, Uid, chownat, mknodat};

use crate::common::files::{errno, owner};
use crate::common::{User, pattern};
use crate::{alice, as_on_the_bare_filesystem, bob, each_shared_mount};

#[test]
fn everything_made_belongs_to_its_maker() {
    each_shared_mount(|mount| {
        let names = ["file", "dir", "link", "fifo", "node", "socket", "excl"];
        for user in [alice(), bob()] {
            let home = mount.join(user.uid.to_string());
            user.run(|| {
                fs::create_dir(&home).unwrap();
                fs::write(home.join("file"), pattern(0, 9000)).unwrap();
                fs::create_dir(home.join("dir")).unwrap();
                symlink("file", home.join("link")).unwrap();
                mknodat(CWD, home.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
                    .unwrap();
                mknodat(
                    CWD,
                    home.join("node"),
                    FileType::RegularFile,
                    Mode::from_raw_mode(0o600),
                    0,
                )
                .unwrap();
                UnixListener::bind(home.join("socket")).unwrap();
                File::create_new(home.join("excl")).unwrap();
            });
            for name in names {
                assert_eq!(owner(home.join(name)), (user.uid, user.gid), "{name}");
            }
        }
        let mount = mount.remount(&["--allow-other"]);
        for user in [alice(), bob()] {
            for name in names {
                let path = mount.join(user.uid.to_string()).join(name);
                assert_eq!(owner(&path), (user.uid, user.gid), "{name} after a remount");
            }
        }
    });
}

#[test]
fn the_group_is_the_first_and_not_a_supplementary_one() {
    each_shared_mount(|mount| {
        let user = alice().with_groups(&[500, 600]);
        user.run(|| fs::write(mount.join("file"), b"x").unwrap());
        assert_eq!(owner(mount.join("file")), (user.uid, user.gid));
    });
}

#[test]
fn chown_follows_the_rules() {
    as_on_the_bare_filesystem(|dir| {
        let file = dir.join("file");
        let user = alice().with_groups(&[500]);
        user.run(|| fs::write(&file, b"x").unwrap());
        let mut seen = Vec::new();
        let mut step = |what: &str, result: std::io::Result<()>| {
            let errno = result.err().and_then(|e| e.raw_os_error());
            seen.push((what.to_owned(), (errno, owner(&file))));
        };
        step("to a group one is in", user.run(|| chown(&file, None, Some(500))));
        step("to a group one is not in", user.run(|| chown(&file, None, Some(501))));
        step("to oneself", user.run(|| chown(&file, Some(user.uid), None)));
        step("to another", user.run(|| chown(&file, Some(bob().uid), None)));
        step("by another", bob().run(|| chown(&file, Some(bob().uid), None)));
        step("by root, the owner", chown(&file, Some(bob().uid), None));
        step("by root, the group", chown(&file, None, Some(7)));
        step("by root, both", chown(&file, Some(0), Some(0)));
        step("by root, neither", chown(&file, None, None));
        step("to large numbers", chown(&file, Some(4_000_000_000), Some(4_000_000_001)));
        seen
    });
}

#[test]
fn lchown_changes_the_link_alone() {
    each_shared_mount(|mount| {
        let (file, link) = (mount.join("file"), mount.join("link"));
        fs::write(&file, b"x").unwrap();
        symlink("file", &link).unwrap();
        lchown(&link, Some(alice().uid), Some(alice().gid)).unwrap();
        assert_eq!(owner(&link), (alice().uid, alice().gid));
        assert_eq!(owner(&file), (0, 0));
        let (uid, gid) = (Some(Uid::from_raw(bob().uid)), Some(Gid::from_raw(bob().gid)));
        chownat(CWD, &link, uid, gid, AtFlags::empty()).unwrap();
        assert_eq!(owner(&file), (bob().uid, bob().gid));
    });
}

/// A daemon that changed its own identity for a request must do it for that one alone: many users
/// make files at once, and each file is its maker's.
#[test]
fn makers_at_the_same_time_are_not_confused() {
    each_shared_mount(|mount| {
        let users: Vec<User> = (0..8).map(|number| User::new(42_000 + number)).collect();
        thread::scope(|scope| {
            for user in &users {
                let dir = mount.path();
                scope.spawn(move || {
                    user.run(|| {
                        for number in 0..100 {
                            let path = dir.join(format!("{}-{number}", user.uid));
                            match number % 3 {
                                0 => fs::write(&path, pattern(0, 5000)).unwrap(),
                                1 => fs::create_dir(&path).unwrap(),
                                _ => symlink("x", &path).unwrap(),
                            }
                        }
                    });
                });
            }
        });
        for user in &users {
            for number in 0..100 {
                let path = mount.join(format!("{}-{number}", user.uid));
                assert_eq!(owner(&path), (user.uid, user.gid), "{}", path.display());
            }
        }
    });
}

/// The kernel flushes the pages of a user who is long gone as nobody in particular.
#[test]
fn dirty_pages_outlive_their_writer() {
    each_shared_mount(|mount| {
        let path = mount.join("file");
        alice().run(|| {
            fs::write(&path, pattern(0, 3_000_000)).unwrap();
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o000))
                .unwrap();
        });
        assert_eq!(errno(bob().run(|| File::open(&path))), libc::EACCES);
        let mount = mount.remount(&["--allow-other"]);
        assert!(fs::read(mount.join("file")).unwrap() == pattern(0, 3_000_000));
        assert_eq!(fs::metadata(mount.join("file")).unwrap().uid(), alice().uid);
    });
}
