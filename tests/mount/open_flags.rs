//! The flags of open(2), one by one.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};

use crate::common::files::{errno, lstat, mode, open_rw, open_with, read_at};
use crate::common::{Allow, Mounted, Vault, pattern};

each_cache!(
    create_and_excl,
    truncate_on_open,
    append_goes_to_the_end,
    append_of_two_descriptors,
    direct_io_agrees_with_the_cache,
    write_only_files_take_partial_blocks,
    a_descriptor_outlives_a_change_of_mode,
    nofollow_directory_and_path,
    what_open_refuses,
);

fn create_and_excl(mount: Mounted) {
    let path = mount.join("file");
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    new.write_all(b"first").unwrap();
    assert_eq!(mode(&path), 0o600);
    let again = OpenOptions::new().write(true).create_new(true).open(&path);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
    symlink("nowhere", mount.join("link")).unwrap();
    let through = OpenOptions::new().write(true).create_new(true).open(mount.join("link"));
    assert_eq!(errno(through), libc::EEXIST);
    assert_eq!(fs::read(&path).unwrap(), b"first");
    // A mode without the owner's write bit holds for later opens, not for the one that creates.
    let mut locked = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(mount.join("locked"))
        .unwrap();
    locked.write_all(&pattern(0, 9000)).unwrap();
    drop(locked);
    assert_eq!(fs::read(mount.join("locked")).unwrap(), pattern(0, 9000));
}

fn truncate_on_open(mount: Mounted) {
    for length in crate::boundaries() {
        let path = mount.join(length.to_string());
        fs::write(&path, pattern(0, length as usize)).unwrap();
        let reader = File::open(&path).unwrap();
        let cut = OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        assert_eq!((lstat(&path).len(), reader.metadata().unwrap().len()), (0, 0));
        assert_eq!(read_at(&reader, 0, 10), b"");
        cut.write_all_at(b"new", 0).unwrap();
        assert_eq!(read_at(&reader, 0, 10), b"new");
        drop((cut, reader));
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }
    let mount = mount.remount(&[]);
    for length in crate::boundaries() {
        assert_eq!(
            fs::read(mount.join(length.to_string())).unwrap(),
            b"new",
            "once {length} bytes"
        );
    }
}

fn append_goes_to_the_end(mount: Mounted) {
    let path = mount.join("file");
    let mut expected = Vec::new();
    let mut file = OpenOptions::new().append(true).read(true).create(true).open(&path).unwrap();
    for round in 0..200u64 {
        let bytes = pattern(round, (round as usize * 37) % 500 + 1);
        file.seek(SeekFrom::Start(round)).unwrap();
        file.write_all(&bytes).unwrap();
        expected.extend_from_slice(&bytes);
        assert_eq!(file.stream_position().unwrap(), expected.len() as u64);
    }
    // Linux appends for pwrite(2) too, whatever the offset.
    file.write_all_at(b"pwrite", 0).unwrap();
    expected.extend_from_slice(b"pwrite");
    file.set_len(100).unwrap();
    file.write_all(b"after").unwrap();
    expected.truncate(100);
    expected.extend_from_slice(b"after");
    assert_eq!(fs::read(&path).unwrap(), expected);
    drop(file);
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), expected);
}

fn append_of_two_descriptors(mount: Mounted) {
    let path = mount.join("file");
    let open = || OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let (mut one, mut two) = (open(), open());
    let mut expected = Vec::new();
    for round in 0..300u32 {
        let line = format!("line {round}\n");
        if round % 2 == 0 { &mut one } else { &mut two }.write_all(line.as_bytes()).unwrap();
        expected.extend_from_slice(line.as_bytes());
    }
    assert_eq!(fs::read(&path).unwrap(), expected);
}

/// A buffer that O_DIRECT takes on any filesystem: `len` bytes at an address that 4096 divides.
fn aligned(room: &mut Vec<u8>, len: usize) -> &mut [u8] {
    room.clear();
    room.resize(len + 4096, 0);
    let start = room.as_ptr().align_offset(4096);
    &mut room[start..start + len]
}

fn direct_io_agrees_with_the_cache(mount: Mounted) {
    let path = mount.join("file");
    let mut room = Vec::new();
    let direct = open_with(&path, libc::O_DIRECT);
    let bytes = aligned(&mut room, 65_536);
    bytes.copy_from_slice(&pattern(3, 65_536));
    direct.write_all_at(bytes, 0).unwrap();
    let cached = open_rw(&path);
    assert_eq!(read_at(&cached, 0, 70_000), pattern(3, 65_536));
    // What lies dirty in the cache shows by the direct descriptor, and what that one writes shows
    // by the cached one.
    let mut expected = pattern(3, 65_536);
    for at in [0usize, 4096, 20_480, 61_440] {
        cached.write_all_at(b"cached", at as u64 + 100).unwrap();
        expected[at + 100..at + 106].copy_from_slice(b"cached");
        let bytes = aligned(&mut room, 8192.min(65_536 - at));
        let read = direct.read_at(bytes, at as u64).unwrap();
        assert_eq!(&bytes[..read], &expected[at..at + read], "direct read at {at}");
        let bytes = aligned(&mut room, 4096);
        bytes.copy_from_slice(&pattern(at as u64 + 9, 4096));
        direct.write_all_at(bytes, at as u64).unwrap();
        expected[at..at + 4096].copy_from_slice(&pattern(at as u64 + 9, 4096));
        assert_eq!(
            read_at(&cached, at as u64, 4096),
            &expected[at..at + 4096],
            "cached read at {at}"
        );
    }
    // Past the end: nothing, not an error.
    let bytes = aligned(&mut room, 4096);
    assert_eq!(direct.read_at(bytes, 65_536).unwrap(), 0);
    drop((direct, cached));
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), expected);
}

/// A block is sealed whole, so the daemon must read what the program may not.
fn write_only_files_take_partial_blocks(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 12_000)).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o200)).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"inside", 5000).unwrap();
    assert_eq!(errno(file.read_at(&mut [0; 4], 0)), libc::EBADF);
    drop(file);
    let mount = mount.remount(&[]);
    let path = mount.join("file");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let mut expected = pattern(0, 12_000);
    expected[5000..5006].copy_from_slice(b"inside");
    assert_eq!(fs::read(&path).unwrap(), expected);
}

fn a_descriptor_outlives_a_change_of_mode(mount: Mounted) {
    let path = mount.join("file");
    let mut file = open_rw(&path);
    file.write_all(&pattern(0, 5000)).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    file.write_all(&pattern(5000, 5000)).unwrap();
    file.sync_all().unwrap();
    file.rewind().unwrap();
    let mut all = Vec::new();
    file.read_to_end(&mut all).unwrap();
    assert_eq!(all, pattern(0, 10_000));
}

fn nofollow_directory_and_path(mount: Mounted) {
    let (file, dir, link) = (mount.join("file"), mount.join("dir"), mount.join("link"));
    fs::write(&file, b"x").unwrap();
    fs::create_dir(&dir).unwrap();
    symlink("file", &link).unwrap();
    let open = |path, flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    assert_eq!(errno(open(&link, libc::O_NOFOLLOW)), libc::ELOOP);
    assert_eq!(errno(open(&file, libc::O_DIRECTORY)), libc::ENOTDIR);
    open(&dir, libc::O_DIRECTORY).unwrap();
    let by_path = open(&link, libc::O_PATH | libc::O_NOFOLLOW).unwrap();
    assert!(by_path.metadata().unwrap().file_type().is_symlink());
    open(&file, libc::O_NOATIME).unwrap();
    open(&file, libc::O_NONBLOCK).unwrap();
    open(&file, libc::O_CLOEXEC | libc::O_NOCTTY).unwrap();
}

fn what_open_refuses(mount: Mounted) {
    fs::create_dir(mount.join("dir")).unwrap();
    fs::write(mount.join("file"), b"x").unwrap();
    assert_eq!(errno(OpenOptions::new().write(true).open(mount.join("dir"))), libc::EISDIR);
    assert_eq!(errno(File::open(mount.join("missing"))), libc::ENOENT);
    assert_eq!(errno(File::create(mount.join("missing/file"))), libc::ENOENT);
    assert_eq!(errno(File::open(mount.join("file/below"))), libc::ENOTDIR);
    assert_eq!(errno(File::create(mount.join("n".repeat(300)))), libc::ENAMETOOLONG);
    // Names are bytes; any but '/' and NUL will do.
    use std::os::unix::ffi::OsStrExt;
    let odd = mount.join(std::ffi::OsStr::from_bytes(b"\xff\n \x01*\xe9"));
    fs::write(&odd, b"odd").unwrap();
    assert_eq!(fs::read(&odd).unwrap(), b"odd");
}

/// With O_SYNC, O_DSYNC or after fsync the bytes are beyond the daemon's death.
#[test]
fn synchronous_writes_outlive_the_daemon() {
    let vault = Vault::init();
    let mut mount = vault.mount(&[]);
    let flags = [("sync", libc::O_SYNC), ("dsync", libc::O_DSYNC), ("fsync", 0)];
    let mut open = Vec::new();
    for (name, flag) in flags {
        let file = open_with(mount.join(name), flag);
        file.write_all_at(&pattern(0, 10_000), 0).unwrap();
        file.write_all_at(b"patched", 4000).unwrap();
        if flag == 0 {
            file.sync_all().unwrap();
        }
        open.push(file);
    }
    mount.kill9();
    drop(open);
    let mut mount = mount.remount(&[]);
    mount.allow(Allow::Warnings);
    let mut expected = pattern(0, 10_000);
    expected[4000..4007].copy_from_slice(b"patched");
    for (name, _) in flags {
        assert_eq!(fs::read(mount.join(name)).unwrap(), expected, "{name}");
    }
}

/// fuser 0.18 has no TMPFILE: programs must get the errno that makes them take a named file.
#[test]
fn tmpfile_is_refused_with_the_errno_that_programs_know() {
    let mount = Vault::init().mount(&[]);
    if crate::common::vault::bare() {
        return;
    }
    let made =
        OpenOptions::new().read(true).write(true).custom_flags(libc::O_TMPFILE).open(mount.path());
    assert_eq!(errno(made), libc::EOPNOTSUPP);
    assert_eq!(lstat(mount.path()).nlink(), 2);
}
