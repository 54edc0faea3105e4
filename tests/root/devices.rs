//! Device nodes, and the attributes that are root's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::{
    CWD, FileType, Mode, XattrFlags, getxattr, listxattr, makedev, mknodat, setxattr,
};

use crate::common::files::lstat;
use crate::{alice, as_on_the_bare_filesystem, each_shared_mount};

#[test]
fn root_makes_device_nodes() {
    each_shared_mount(|mount| {
        let nodes = [
            ("null", FileType::CharacterDevice, makedev(1, 3)),
            ("disk", FileType::BlockDevice, makedev(7, 200)),
        ];
        for (name, kind, device) in nodes {
            mknodat(CWD, mount.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
        }
        let check = |mount: &crate::common::Mounted| {
            for (name, kind, device) in nodes {
                let meta = lstat(mount.join(name));
                assert_eq!(meta.rdev(), device, "{name}");
                assert_eq!(meta.file_type().is_char_device(), kind == FileType::CharacterDevice);
                assert_eq!(meta.file_type().is_block_device(), kind == FileType::BlockDevice);
                assert_eq!(meta.mode() & 0o7777, 0o640);
            }
        };
        check(&mount);
        check(&mount.remount(&["--allow-other"]));
    });
}

#[test]
fn others_make_none() {
    as_on_the_bare_filesystem(|dir| {
        let make = |kind, name: &str| {
            let made = alice().run(|| {
                mknodat(CWD, dir.join(name), kind, Mode::from_raw_mode(0o600), makedev(1, 3))
            });
            (name.to_owned(), made.err().map(|e| e.raw_os_error()))
        };
        vec![
            make(FileType::CharacterDevice, "char"),
            make(FileType::BlockDevice, "block"),
            make(FileType::Fifo, "fifo"),
        ]
    });
}

#[test]
fn trusted_attributes_are_roots() {
    as_on_the_bare_filesystem(|dir| {
        let file = dir.join("file");
        fs::write(&file, b"x").unwrap();
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        let mut seen = Vec::new();
        let mut see = |what: &str, result: Result<String, rustix::io::Errno>| {
            seen.push((what.to_owned(), result))
        };
        let set = |name: &str| {
            setxattr(&file, name, b"value", XattrFlags::empty()).map(|()| String::new())
        };
        let get = |name: &str| {
            let mut room = [0; 64];
            getxattr(&file, name, &mut room[..])
                .map(|length| String::from_utf8_lossy(&room[..length]).into_owned())
        };
        let list = || {
            let mut room = [0; 1000];
            let length = listxattr(&file, &mut room[..])?;
            let names: BTreeSet<String> = room[..length]
                .split(|byte| *byte == 0)
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect();
            Ok(format!("{names:?}"))
        };
        see("root sets trusted", set("trusted.a"));
        see("root sets user", set("user.a"));
        see("root gets trusted", get("trusted.a"));
        see("root lists", list());
        alice().run(|| {
            see("user sets trusted", set("trusted.b"));
            see("user gets trusted", get("trusted.a"));
            see("user gets user", get("user.a"));
            see("user lists", list());
        });
        seen
    });
}
