//! rename(2) and the flags of renameat2(2).

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::common::files::{errno, lstat, open_rw, read_at};
use crate::common::{Mounted, pattern};

each_cache!(
    rename_moves_files_and_directories,
    rename_replaces_in_one_step,
    noreplace_refuses_what_exists,
    exchange_swaps_any_two,
    rename_refuses_what_ext4_refuses,
    rename_between_links_of_one_file_does_nothing,
    a_dirty_file_takes_its_pages_along,
    a_moved_directory_keeps_its_open_files,
);

fn with(from: &Path, to: &Path, flags: RenameFlags) -> Result<(), Errno> {
    renameat_with(CWD, from, CWD, to, flags)
}

fn rename_moves_files_and_directories(mount: Mounted) {
    fs::create_dir_all(mount.join("from/deep")).unwrap();
    fs::create_dir(mount.join("to")).unwrap();
    fs::write(mount.join("from/deep/file"), pattern(0, 9000)).unwrap();
    fs::rename(mount.join("from/deep"), mount.join("to/moved")).unwrap();
    assert_eq!(fs::read(mount.join("to/moved/file")).unwrap(), pattern(0, 9000));
    assert_eq!(errno(fs::metadata(mount.join("from/deep"))), libc::ENOENT);
    assert_eq!((lstat(mount.join("from")).nlink(), lstat(mount.join("to")).nlink()), (2, 3));
    fs::rename(mount.join("to/moved/file"), mount.join("name")).unwrap();
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("name")).unwrap(), pattern(0, 9000));
    assert_eq!(fs::read_dir(mount.join("to/moved")).unwrap().count(), 0);
}

fn rename_replaces_in_one_step(mount: Mounted) {
    let (old, new) = (mount.join("old"), mount.join("new"));
    fs::write(&new, b"before").unwrap();
    for round in 0..50 {
        fs::write(&old, format!("round {round}")).unwrap();
        fs::rename(&old, &new).unwrap();
        assert_eq!(fs::read_to_string(&new).unwrap(), format!("round {round}"));
        assert_eq!(errno(fs::metadata(&old)), libc::ENOENT);
    }
    // A directory replaces an empty directory.
    fs::create_dir(mount.join("d1")).unwrap();
    fs::write(mount.join("d1/file"), b"x").unwrap();
    fs::create_dir(mount.join("d2")).unwrap();
    fs::rename(mount.join("d1"), mount.join("d2")).unwrap();
    assert_eq!(fs::read(mount.join("d2/file")).unwrap(), b"x");
}

fn noreplace_refuses_what_exists(mount: Mounted) {
    let (a, b) = (mount.join("a"), mount.join("b"));
    fs::write(&a, b"a").unwrap();
    fs::write(&b, b"b").unwrap();
    assert_eq!(with(&a, &b, RenameFlags::NOREPLACE), Err(Errno::EXIST));
    symlink("nowhere", mount.join("link")).unwrap();
    assert_eq!(with(&a, &mount.join("link"), RenameFlags::NOREPLACE), Err(Errno::EXIST));
    assert_eq!((fs::read(&a).unwrap(), fs::read(&b).unwrap()), (b"a".to_vec(), b"b".to_vec()));
    with(&a, &mount.join("c"), RenameFlags::NOREPLACE).unwrap();
    assert_eq!(fs::read(mount.join("c")).unwrap(), b"a");
    assert_eq!(with(&a, &mount.join("d"), RenameFlags::NOREPLACE), Err(Errno::NOENT));
}

fn exchange_swaps_any_two(mount: Mounted) {
    let (file, dir, link) = (mount.join("file"), mount.join("dir"), mount.join("link"));
    fs::write(&file, pattern(0, 9000)).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("inside"), b"inside").unwrap();
    symlink("target", &link).unwrap();
    with(&file, &dir, RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(file.join("inside")).unwrap(), b"inside");
    assert_eq!(fs::read(&dir).unwrap(), pattern(0, 9000));
    with(&dir, &link, RenameFlags::EXCHANGE).unwrap();
    assert_eq!(fs::read(&link).unwrap(), pattern(0, 9000));
    assert_eq!(fs::read_link(&dir).unwrap(), Path::new("target"));
    assert_eq!(with(&file, &mount.join("missing"), RenameFlags::EXCHANGE), Err(Errno::NOENT));
    let both = RenameFlags::EXCHANGE | RenameFlags::NOREPLACE;
    assert_eq!(with(&file, &link, both), Err(Errno::INVAL));
    // Both names are dirty and open while they are swapped.
    let (one, two) = (mount.join("one"), mount.join("two"));
    let (first, second) = (open_rw(&one), open_rw(&two));
    std::os::unix::fs::FileExt::write_all_at(&first, &pattern(1, 5000), 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&second, &pattern(2, 6000), 0).unwrap();
    with(&one, &two, RenameFlags::EXCHANGE).unwrap();
    assert_eq!((lstat(&one).len(), lstat(&two).len()), (6000, 5000));
    assert_eq!(read_at(&first, 0, 9000), pattern(1, 5000));
    drop((first, second));
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("one")).unwrap(), pattern(2, 6000));
    assert_eq!(fs::read(mount.join("two")).unwrap(), pattern(1, 5000));
    assert_eq!(fs::read(mount.join("file/inside")).unwrap(), b"inside");
}

fn rename_refuses_what_ext4_refuses(mount: Mounted) {
    let (file, dir) = (mount.join("file"), mount.join("dir"));
    fs::write(&file, b"x").unwrap();
    fs::create_dir_all(dir.join("sub")).unwrap();
    assert_eq!(errno(fs::rename(&dir, dir.join("sub/dir"))), libc::EINVAL);
    assert_eq!(errno(fs::rename(&file, &dir)), libc::EISDIR);
    assert_eq!(errno(fs::rename(&dir, &file)), libc::ENOTDIR);
    fs::create_dir(mount.join("other")).unwrap();
    assert_eq!(errno(fs::rename(mount.join("other"), &dir)), libc::ENOTEMPTY);
    assert_eq!(errno(fs::rename(mount.join("missing"), &file)), libc::ENOENT);
    assert_eq!(errno(fs::rename(&file, mount.join("n".repeat(256)))), libc::ENAMETOOLONG);
    let outside = mount.vault().scratch().join("outside");
    assert_eq!(errno(fs::rename(&file, outside)), libc::EXDEV);
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

fn rename_between_links_of_one_file_does_nothing(mount: Mounted) {
    let (a, b) = (mount.join("a"), mount.join("b"));
    fs::write(&a, b"x").unwrap();
    fs::hard_link(&a, &b).unwrap();
    fs::rename(&a, &b).unwrap();
    assert_eq!((lstat(&a).nlink(), lstat(&b).nlink()), (2, 2));
    fs::rename(&a, &a).unwrap();
    assert_eq!(fs::read(&a).unwrap(), b"x");
}

fn a_dirty_file_takes_its_pages_along(mount: Mounted) {
    fs::create_dir(mount.join("dir")).unwrap();
    let file = open_rw(mount.join("a"));
    std::os::unix::fs::FileExt::write_all_at(&file, &pattern(0, 100_000), 0).unwrap();
    fs::rename(mount.join("a"), mount.join("dir/b")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"after", 50_000).unwrap();
    assert_eq!(lstat(mount.join("dir/b")).len(), 100_000);
    drop(file);
    let mount = mount.remount(&[]);
    let mut expected = pattern(0, 100_000);
    expected[50_000..50_005].copy_from_slice(b"after");
    assert_eq!(fs::read(mount.join("dir/b")).unwrap(), expected);
}

fn a_moved_directory_keeps_its_open_files(mount: Mounted) {
    fs::create_dir_all(mount.join("a/b")).unwrap();
    let dir = File::open(mount.join("a/b")).unwrap();
    let file = open_rw(mount.join("a/b/file"));
    fs::rename(mount.join("a"), mount.join("z")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"still here", 0).unwrap();
    rustix::fs::mkdirat(&dir, "made", 0o755.into()).unwrap();
    assert!(lstat(mount.join("z/b/made")).is_dir());
    drop(file);
    assert_eq!(fs::read(mount.join("z/b/file")).unwrap(), b"still here");
}
