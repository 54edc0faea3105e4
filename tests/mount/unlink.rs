//! Files and directories whose name goes while they are in use.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::fstat;

use crate::common::files::{errno, open_rw, read_at};
use crate::common::{Mounted, pattern};

each_cache!(
    an_unlinked_file_lives_while_it_is_open,
    a_file_replaced_while_open_keeps_its_content,
    a_new_file_of_an_old_name_is_another,
    an_unlinked_file_gives_its_space_back,
    rmdir_wants_an_empty_directory,
    a_removed_directory_takes_no_entries,
    nothing_is_left_in_the_vault,
);

fn an_unlinked_file_lives_while_it_is_open(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 10_000)).unwrap();
    let file = open_rw(&path);
    fs::remove_file(&path).unwrap();
    assert_eq!(errno(File::open(&path)), libc::ENOENT);
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
    assert_eq!(file.metadata().unwrap().nlink(), 0);
    assert_eq!(read_at(&file, 0, 20_000), pattern(0, 10_000));
    file.write_all_at(b"more", 50_000).unwrap();
    file.sync_all().unwrap();
    assert_eq!(file.metadata().unwrap().len(), 50_004);
    assert_eq!(read_at(&file, 50_000, 10), b"more");
    file.set_len(5000).unwrap();
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(read_at(&file, 0, 20_000), pattern(0, 5000));
    assert_eq!(fstat(&file).unwrap().st_mode & 0o777, 0o600);
}

fn a_file_replaced_while_open_keeps_its_content(mount: Mounted) {
    let (old, new) = (mount.join("old"), mount.join("new"));
    fs::write(&old, pattern(0, 10_000)).unwrap();
    fs::write(&new, pattern(7, 20_000)).unwrap();
    let file = open_rw(&old);
    fs::rename(&new, &old).unwrap();
    assert_eq!(read_at(&file, 0, 30_000), pattern(0, 10_000));
    file.write_all_at(b"x", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs::read(&old).unwrap(), pattern(7, 20_000));
}

fn a_new_file_of_an_old_name_is_another(mount: Mounted) {
    let path = mount.join("file");
    let mut open = Vec::new();
    for round in 0..20u64 {
        let file = open_rw(&path);
        file.write_all_at(&pattern(round, 9000), 0).unwrap();
        open.push((round, file));
        fs::remove_file(&path).unwrap();
    }
    for (round, file) in &open {
        assert_eq!(read_at(file, 0, 10_000), pattern(*round, 9000), "round {round}");
    }
}

fn an_unlinked_file_gives_its_space_back(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 5_000_000)).unwrap();
    let file = open_rw(&path);
    file.sync_all().unwrap();
    fs::remove_file(&path).unwrap();
    drop(file);
    let vault = mount.vault().clone();
    mount.unmount();
    let left: u64 = fs::read_dir(vault.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().blocks())
        .sum();
    assert!(left * 512 < 100_000, "{left} blocks are left in the vault");
}

fn rmdir_wants_an_empty_directory(mount: Mounted) {
    let dir = mount.join("dir");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("file"), b"x").unwrap();
    assert_eq!(errno(fs::remove_dir(&dir)), libc::ENOTEMPTY);
    assert_eq!(errno(fs::remove_dir(dir.join("file"))), libc::ENOTDIR);
    assert!(matches!(errno(fs::remove_file(&dir)), libc::EISDIR | libc::EPERM));
    fs::remove_file(dir.join("file")).unwrap();
    fs::remove_dir(&dir).unwrap();
    assert_eq!(errno(fs::metadata(&dir)), libc::ENOENT);
    assert_eq!(errno(fs::remove_dir(&dir)), libc::ENOENT);
}

fn a_removed_directory_takes_no_entries(mount: Mounted) {
    let dir = mount.join("dir");
    fs::create_dir(&dir).unwrap();
    let open = File::open(&dir).unwrap();
    fs::remove_dir(&dir).unwrap();
    assert_eq!(open.metadata().unwrap().nlink(), 0);
    let made = rustix::fs::mkdirat(&open, "x", 0o700.into());
    assert_eq!(made.unwrap_err(), rustix::io::Errno::NOENT);
    let read = rustix::fs::Dir::read_from(&open).unwrap().filter_map(Result::ok);
    assert!(read.into_iter().all(|entry| matches!(entry.file_name().to_bytes(), b"." | b"..")));
}

/// Whatever the daemon does to keep a removed file readable, the vault is clean at the unmount.
fn nothing_is_left_in_the_vault(mount: Mounted) {
    let vault = mount.vault().clone();
    let names = || {
        let entries = fs::read_dir(vault.path()).unwrap().map(|entry| entry.unwrap().file_name());
        entries.filter(|name| name != ".atrest").collect::<Vec<_>>()
    };
    assert_eq!(names(), Vec::<std::ffi::OsString>::new());
    fs::create_dir(mount.join("dir")).unwrap();
    for number in 0..30 {
        let path = mount.join(format!("dir/{number}"));
        fs::write(&path, pattern(0, 5000)).unwrap();
        let file = File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(read_at(&file, 0, 6000).len(), 5000);
    }
    fs::remove_dir(mount.join("dir")).unwrap();
    mount.unmount();
    assert_eq!(names(), Vec::<std::ffi::OsString>::new());
}
