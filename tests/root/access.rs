//! Who may do what with a file, by its mode: every answer is the bare filesystem's.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, accessat, utimensat};

use crate::common::files::{errno, mode};
use crate::common::{User, pattern};
use crate::{alice, as_on_the_bare_filesystem, bob, carol, each_shared_mount};

const GROUP: u32 = 43_000;

/// The owner, a member of the group, one who is neither, and root.
fn everybody() -> [(&'static str, User); 4] {
    [
        ("owner", alice()),
        ("member", bob().with_groups(&[7, GROUP])),
        ("other", carol()),
        ("root", User { uid: 0, gid: 0, groups: vec![0] }),
    ]
}

fn give(path: &Path, mode: u32) {
    chown(path, Some(alice().uid), Some(GROUP)).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn code<T>(result: io::Result<T>) -> i32 {
    result.err().map_or(0, |e| e.raw_os_error().unwrap())
}

/// Enough modes that each bit of each class is seen with and without the others.
const MODES: [u32; 16] = [
    0o000, 0o400, 0o200, 0o100, 0o444, 0o222, 0o111, 0o040, 0o020, 0o010, 0o004, 0o002, 0o077,
    0o707, 0o770, 0o755,
];

#[test]
fn files_of_every_mode() {
    as_on_the_bare_filesystem(|dir| {
        let mut seen = Vec::new();
        for bits in MODES {
            let file = dir.join(format!("{bits:o}"));
            fs::write(&file, b"#!/bin/sh\n").unwrap();
            give(&file, bits);
            for (who, user) in everybody() {
                let mut see =
                    |what: &str, code: i32| seen.push((format!("{bits:o} {who} {what}"), code));
                user.run(|| {
                    see("read", code(File::open(&file)));
                    see("write", code(OpenOptions::new().append(true).open(&file)));
                    see("both", code(OpenOptions::new().read(true).write(true).open(&file)));
                    see(
                        "truncate",
                        code(
                            rustix::fs::open(&file, rustix::fs::OFlags::WRONLY, 0.into())
                                .map_err(Into::into),
                        ),
                    );
                    for access in
                        [Access::READ_OK, Access::WRITE_OK, Access::EXEC_OK, Access::EXISTS]
                    {
                        let asked = accessat(CWD, &file, access, AtFlags::EACCESS);
                        see(&format!("{access:?}"), code(asked.map_err(Into::into)));
                    }
                });
            }
        }
        seen
    });
}

#[test]
fn directories_of_every_mode() {
    as_on_the_bare_filesystem(|dir| {
        let mut seen = Vec::new();
        for bits in MODES {
            let sub = dir.join(format!("{bits:o}"));
            fs::create_dir(&sub).unwrap();
            fs::write(sub.join("file"), b"x").unwrap();
            give(&sub, bits);
            for (who, user) in everybody() {
                let mut see =
                    |what: &str, code: i32| seen.push((format!("{bits:o} {who} {what}"), code));
                user.run(|| {
                    see("list", code(fs::read_dir(&sub).map(Iterator::count)));
                    see("search", code(fs::metadata(sub.join("file"))));
                    see("read in it", code(fs::read(sub.join("file"))));
                    see("create", code(fs::write(sub.join(format!("new-{who}")), b"x")));
                    see("mkdir", code(fs::create_dir(sub.join(format!("dir-{who}")))));
                    see("rename", code(fs::rename(sub.join("file"), sub.join("moved"))));
                    see("rename back", code(fs::rename(sub.join("moved"), sub.join("file"))));
                    see(
                        "link",
                        code(fs::hard_link(sub.join("file"), sub.join(format!("link-{who}")))),
                    );
                    see("unlink", code(fs::remove_file(sub.join(format!("new-{who}")))));
                    see("missing", code(fs::metadata(sub.join("missing"))));
                });
            }
        }
        seen
    });
}

#[test]
fn attributes_are_the_owners_to_change() {
    as_on_the_bare_filesystem(|dir| {
        let file = dir.join("file");
        fs::write(&file, b"x").unwrap();
        let mut seen = Vec::new();
        for bits in [0o000, 0o444, 0o666] {
            for (who, user) in everybody() {
                give(&file, bits);
                let mut see =
                    |what: &str, code: i32| seen.push((format!("{bits:o} {who} {what}"), code));
                user.run(|| {
                    let time = |nsec| Timespec { tv_sec: 1000, tv_nsec: nsec };
                    let set = Timestamps { last_access: time(0), last_modification: time(0) };
                    let now = Timestamps {
                        last_access: time(UTIME_NOW),
                        last_modification: time(UTIME_NOW),
                    };
                    let none = AtFlags::empty();
                    see("set times", code(utimensat(CWD, &file, &set, none).map_err(Into::into)));
                    see("touch", code(utimensat(CWD, &file, &now, none).map_err(Into::into)));
                    see("chmod", code(fs::set_permissions(&file, Permissions::from_mode(bits))));
                    let name = "user.x";
                    let flags = rustix::fs::XattrFlags::empty();
                    see(
                        "setxattr",
                        code(rustix::fs::setxattr(&file, name, b"x", flags).map_err(Into::into)),
                    );
                    let read = rustix::fs::getxattr(&file, name, &mut [0; 8][..]);
                    see("getxattr", code(read.map(drop).map_err(Into::into)));
                });
            }
        }
        seen
    });
}

/// An owner who is not root, and a mode that allows less than sealing takes: reading for a write,
/// writing for a header.
#[test]
fn an_owner_without_the_bits() {
    each_shared_mount(|mount| {
        let user = alice();
        let path = |bits: u32| mount.join(format!("{bits:o}"));
        user.run(|| {
            for bits in [0o444, 0o200, 0o000] {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .custom_mode(bits)
                    .open(path(bits))
                    .unwrap();
                file.write_all_at(&pattern(0, 10_000), 0).unwrap();
                file.write_all_at(b"inside", 4000).unwrap();
                file.set_len(9000).unwrap();
                file.sync_all().unwrap();
                assert_eq!(mode(path(bits)), bits);
            }
            assert_eq!(errno(OpenOptions::new().write(true).open(path(0o444))), libc::EACCES);
            assert_eq!(errno(File::open(path(0o200))), libc::EACCES);
            assert_eq!(errno(File::open(path(0o000))), libc::EACCES);
            let partial = OpenOptions::new().write(true).open(path(0o200)).unwrap();
            partial.write_all_at(b"again", 5000).unwrap();
            fs::rename(path(0o000), mount.join("renamed")).unwrap();
            fs::hard_link(path(0o444), mount.join("linked")).unwrap();
        });
        let mount = mount.remount(&["--allow-other"]);
        let mut expected = pattern(0, 9000);
        expected[4000..4006].copy_from_slice(b"inside");
        assert_eq!(fs::read(mount.join("renamed")).unwrap(), expected);
        assert_eq!(fs::read(mount.join("linked")).unwrap(), expected);
        expected[5000..5005].copy_from_slice(b"again");
        assert_eq!(fs::read(mount.join("200")).unwrap(), expected);
    });
}

/// `mode` of [`std::os::unix::fs::OpenOptionsExt`], under a name that the module's own does not hide.
trait CustomMode {
    fn custom_mode(&mut self, bits: u32) -> &mut Self;
}

impl CustomMode for OpenOptions {
    fn custom_mode(&mut self, bits: u32) -> &mut OpenOptions {
        std::os::unix::fs::OpenOptionsExt::mode(self, bits)
    }
}
