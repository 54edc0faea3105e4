//! File capabilities stay until a write of a program takes them, whatever the daemon itself writes.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{XattrFlags, fsetxattr, getxattr, listxattr, removexattr, setxattr};
use rustix::io::Errno;

use crate::common::files::open_rw;
use crate::common::{Mapping, Mounted, Vault, pattern, require_root};

const NAME: &str = "security.capability";

/// VFS_CAP_REVISION_2 with CAP_NET_RAW permitted and effective (linux/capability.h).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// More than one request takes, so that the header is written again at close.
const LONG: usize = 3_000_000;

fn each_mount(test: impl Fn(Mounted)) {
    require_root();
    for options in [&[][..], &["--no-writeback"]] {
        test(Vault::init().mount(options));
    }
}

fn capability(path: impl AsRef<Path>) -> Option<Vec<u8>> {
    let mut value = [0; 64];
    match getxattr(path.as_ref(), NAME, &mut value[..]) {
        Ok(len) => Some(value[..len].to_vec()),
        Err(Errno::NODATA) => None,
        Err(errno) => panic!("{}: {errno}", path.as_ref().display()),
    }
}

#[track_caller]
fn assert_has(path: impl AsRef<Path>) {
    assert_eq!(capability(&path).as_deref(), Some(&CAPABILITY[..]), "{}", path.as_ref().display());
}

fn set(path: impl rustix::path::Arg) {
    setxattr(path, NAME, &CAPABILITY, XattrFlags::empty()).unwrap();
}

#[test]
fn one_set_before_close_stays() {
    each_mount(|mount| {
        let path = mount.join("file");
        let mut file = File::create(&path).unwrap();
        file.write_all(&pattern(0, LONG)).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o6755)).unwrap();
        fsetxattr(&file, NAME, &CAPABILITY, XattrFlags::empty()).unwrap();
        file.sync_all().unwrap();
        drop(file);
        assert_has(&path);
        let mount = mount.remount(&[]);
        assert_has(mount.join("file"));
        assert_eq!(fs::metadata(mount.join("file")).unwrap().permissions().mode() & 0o7777, 0o6755);
    });
}

#[test]
fn programs_that_copy_bring_it_along() {
    each_mount(|mount| {
        fs::write(mount.join("file"), pattern(0, LONG)).unwrap();
        fs::set_permissions(mount.join("file"), fs::Permissions::from_mode(0o755)).unwrap();
        set(mount.join("file"));
        let run = |command: &str| {
            let ran = Command::new("sh").args(["-c", command]).current_dir(mount.path()).status();
            assert!(ran.unwrap().success(), "{command}");
        };
        run("cp -a file copied");
        run("tar --xattrs --xattrs-include=security.capability -cf archive file");
        run("mkdir out && tar --xattrs --xattrs-include=security.capability -xf archive -C out");
        let mount = mount.remount(&[]);
        for name in ["file", "copied", "out/file"] {
            assert_has(mount.join(name));
        }
    });
}

/// Each call by itself is compared with the bare filesystem in `set_id`; this is the cache's part.
#[test]
fn a_write_takes_it_and_an_older_one_does_not() {
    each_mount(|mount| {
        let path = mount.join("file");
        fs::write(&path, pattern(0, LONG)).unwrap();
        let file = open_rw(&path);
        // Stores to a mapping are written back after the attribute is set.
        let mut mapping = Mapping::shared(&file, 8192).unwrap();
        mapping.bytes_mut()[100] = 1;
        set(&path);
        mapping.sync().unwrap();
        drop(mapping);
        assert_has(&path);
        file.write_all_at(b"new", 10).unwrap();
        assert_eq!(capability(&path), None);
        file.sync_all().unwrap();
        set(&path);
        chown(&path, Some(1), None).unwrap();
        assert_eq!(capability(&path), None);
        drop(file);
        let mount = mount.remount(&[]);
        assert_eq!(capability(mount.join("file")), None);
    });
}

#[test]
fn it_is_listed_replaced_and_removed_as_any_other() {
    each_mount(|mount| {
        let path = mount.join("file");
        fs::write(&path, b"x").unwrap();
        let replace = setxattr(&path, NAME, &CAPABILITY, XattrFlags::REPLACE);
        assert_eq!(replace, Err(Errno::NODATA));
        setxattr(&path, NAME, &CAPABILITY, XattrFlags::CREATE).unwrap();
        let create = setxattr(&path, NAME, &CAPABILITY, XattrFlags::CREATE);
        assert_eq!(create, Err(Errno::EXIST));
        setxattr(&path, NAME, &CAPABILITY, XattrFlags::REPLACE).unwrap();
        let mut names = [0; 256];
        let len = listxattr(&path, &mut names[..]).unwrap();
        assert_eq!(&names[..len], b"security.capability\0");
        removexattr(&path, NAME).unwrap();
        assert_eq!(removexattr(&path, NAME), Err(Errno::NODATA));
        assert_eq!(capability(&path), None);
        // The name that it has in the vault is not one of the mount.
        let stored = setxattr(&path, "trusted.atrest.capability", &CAPABILITY, XattrFlags::CREATE);
        assert_eq!(stored, Err(Errno::OPNOTSUPP));
    });
}

#[test]
fn a_rewrap_keeps_it() {
    require_root();
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    for name in ["new", "old", "open"] {
        fs::write(mount.join(name), pattern(0, LONG)).unwrap();
        fs::set_permissions(mount.join(name), fs::Permissions::from_mode(0o4755)).unwrap();
        set(mount.join(name));
    }
    let mount = {
        mount.unmount();
        // As vaults have it whose capabilities were set before they had a name of their own.
        let old = stored(&vault, |path| {
            let mut value = [0; 64];
            getxattr(path, "trusted.atrest.capability", &mut value[..]).is_ok()
        });
        assert_eq!(old.len(), 3);
        removexattr(&*old[0], "trusted.atrest.capability").unwrap();
        set(&*old[0]);
        vault.mount(&[])
    };
    let open = File::open(mount.join("open")).unwrap();
    for name in ["new", "old", "open"] {
        assert_has(mount.join(name));
    }
    vault.run(&["key", "rotate"]).ok();
    vault.run(&["key", "rewrap"]).ok();
    drop(open);
    let mount = mount.remount(&[]);
    for name in ["new", "old", "open"] {
        assert_has(mount.join(name));
        assert_eq!(fs::metadata(mount.join(name)).unwrap().permissions().mode() & 0o7777, 0o4755);
    }
}

/// The files of the vault for which `wanted` holds.
fn stored(vault: &Vault, wanted: impl Fn(&CString) -> bool) -> Vec<CString> {
    let entries = fs::read_dir(vault.path()).unwrap().map(|entry| entry.unwrap());
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let paths = files.map(|entry| CString::new(entry.path().as_os_str().as_bytes()).unwrap());
    paths.filter(wanted).collect()
}
