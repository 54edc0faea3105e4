//! Extended attributes of the user namespace; the others' are in tests/root.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{
    XattrFlags, fgetxattr, fsetxattr, getxattr, lgetxattr, listxattr, lsetxattr, removexattr,
    setxattr,
};
use rustix::io::Errno;

use crate::common::files::{ctime_ns, mtime_ns, open_rw};
use crate::common::{Mounted, pattern};

each_cache!(
    set_read_list_remove,
    create_and_replace,
    small_buffers_are_refused,
    values_of_many_sizes_survive_a_remount,
    symlinks_have_none,
    they_follow_the_file,
    names_that_are_refused,
);

fn read(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut room = vec![0; 70_000];
    let length = getxattr(path, name, &mut room[..])?;
    Ok(room[..length].to_vec())
}

/// The names of the user namespace that the file has; others may be the system's.
fn names(path: &Path) -> BTreeSet<String> {
    let mut room = vec![0; 70_000];
    let length = listxattr(path, &mut room[..]).unwrap();
    let all = room[..length]
        .split(|byte| *byte == 0)
        .map(|name| String::from_utf8(name.to_vec()).unwrap());
    all.filter(|name| name.starts_with("user.")).collect()
}

fn set(path: &Path, name: &str, value: &[u8]) -> Result<(), Errno> {
    setxattr(path, name, value, XattrFlags::empty())
}

fn set_read_list_remove(mount: Mounted) {
    let (file, dir) = (mount.join("file"), mount.join("dir"));
    fs::write(&file, b"x").unwrap();
    fs::create_dir(&dir).unwrap();
    for path in [&file, &dir] {
        assert_eq!(names(path), BTreeSet::new());
        assert_eq!(read(path, "user.a"), Err(Errno::NODATA));
        set(path, "user.a", b"first").unwrap();
        set(path, "user.b", b"").unwrap();
        set(path, "user.ünïcödé", b"\0\xff\0").unwrap();
        set(path, "user.a", b"second").unwrap();
        assert_eq!(read(path, "user.a").unwrap(), b"second");
        assert_eq!(read(path, "user.b").unwrap(), b"");
        assert_eq!(read(path, "user.ünïcödé").unwrap(), b"\0\xff\0");
        assert_eq!(names(path), ["user.a", "user.b", "user.ünïcödé"].map(String::from).into());
        removexattr(path, "user.a").unwrap();
        assert_eq!(read(path, "user.a"), Err(Errno::NODATA));
        assert_eq!(removexattr(path, "user.a"), Err(Errno::NODATA));
        assert_eq!(names(path).len(), 2);
    }
    let open = open_rw(&file);
    fsetxattr(&open, "user.fd", b"by descriptor", XattrFlags::empty()).unwrap();
    let mut room = [0; 64];
    let length = fgetxattr(&open, "user.fd", &mut room[..]).unwrap();
    assert_eq!(&room[..length], b"by descriptor");
}

fn create_and_replace(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    let with = |value: &[u8], flags| setxattr(&path, "user.a", value, flags);
    assert_eq!(with(b"1", XattrFlags::REPLACE), Err(Errno::NODATA));
    assert_eq!(with(b"1", XattrFlags::CREATE), Ok(()));
    assert_eq!(with(b"2", XattrFlags::CREATE), Err(Errno::EXIST));
    assert_eq!(read(&path, "user.a").unwrap(), b"1");
    assert_eq!(with(b"2", XattrFlags::REPLACE), Ok(()));
    assert_eq!(read(&path, "user.a").unwrap(), b"2");
}

fn small_buffers_are_refused(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    set(&path, "user.a", &pattern(0, 100)).unwrap();
    let mut short = [0; 99];
    assert_eq!(getxattr(&path, "user.a", &mut short[..]), Err(Errno::RANGE));
    assert_eq!(listxattr(&path, &mut short[..3]), Err(Errno::RANGE));
    assert_eq!(rustix::fs::getxattr_query(&path, "user.a"), Ok(100));
    let mut exact = [0; 100];
    assert_eq!(getxattr(&path, "user.a", &mut exact[..]), Ok(100));
}

fn values_of_many_sizes_survive_a_remount(mount: Mounted) {
    let sizes = [0, 1, 15, 16, 255, 256, 1000, 2000];
    for size in sizes {
        let path = mount.join(size.to_string());
        fs::write(&path, pattern(0, 5000)).unwrap();
        set(&path, "user.value", &pattern(size as u64, size)).unwrap();
        assert_eq!(read(&path, "user.value").unwrap(), pattern(size as u64, size));
    }
    let mount = mount.remount(&[]);
    for size in sizes {
        let path = mount.join(size.to_string());
        assert_eq!(read(&path, "user.value").unwrap(), pattern(size as u64, size), "{size} bytes");
        assert_eq!(fs::read(&path).unwrap(), pattern(0, 5000));
    }
    // ext4 has room for one block of them; the error must be one that cp and tar report.
    let path = mount.join("large");
    fs::write(&path, b"x").unwrap();
    let large = set(&path, "user.value", &vec![7; 60_000]);
    assert!(matches!(large, Ok(()) | Err(Errno::NOSPC | Errno::TOOBIG)), "{large:?}");
    assert_eq!(set(&path, "user.value", &vec![7; 70_000]), Err(Errno::TOOBIG));
}

/// Linux keeps the user namespace to files and directories.
fn symlinks_have_none(mount: Mounted) {
    let link = mount.join("link");
    fs::write(mount.join("file"), b"x").unwrap();
    symlink("file", &link).unwrap();
    assert_eq!(lsetxattr(&link, "user.a", b"x", XattrFlags::empty()), Err(Errno::PERM));
    let found = lgetxattr(&link, "user.a", &mut [0; 10][..]);
    assert!(matches!(found, Err(Errno::NODATA | Errno::PERM | Errno::OPNOTSUPP)), "{found:?}");
    set(&link, "user.a", b"through").unwrap();
    assert_eq!(read(&mount.join("file"), "user.a").unwrap(), b"through");
}

fn they_follow_the_file(mount: Mounted) {
    let (path, link) = (mount.join("file"), mount.join("link"));
    fs::write(&path, b"x").unwrap();
    let (mtime, ctime) = (mtime_ns(&path), ctime_ns(&path));
    std::thread::sleep(std::time::Duration::from_millis(20));
    set(&path, "user.a", b"value").unwrap();
    assert_eq!(mtime_ns(&path), mtime, "an attribute moves no mtime");
    assert!(ctime_ns(&path) > ctime, "an attribute moves the ctime");
    fs::hard_link(&path, &link).unwrap();
    assert_eq!(read(&link, "user.a").unwrap(), b"value");
    fs::rename(&path, mount.join("renamed")).unwrap();
    fs::write(mount.join("renamed"), pattern(0, 9000)).unwrap();
    assert_eq!(read(&mount.join("renamed"), "user.a").unwrap(), b"value");
    fs::write(mount.join("file"), b"new").unwrap();
    assert_eq!(
        names(&mount.join("file")),
        BTreeSet::new(),
        "a new file has none of the old name's"
    );
}

fn names_that_are_refused(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    assert_eq!(set(&path, "noprefix", b"x"), Err(Errno::OPNOTSUPP));
    assert_eq!(set(&path, "", b"x"), Err(Errno::RANGE));
    assert_eq!(set(&path, &format!("user.{}", "n".repeat(300)), b"x"), Err(Errno::RANGE));
    assert_eq!(read(&mount.join("missing"), "user.a"), Err(Errno::NOENT));
}
