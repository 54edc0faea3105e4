//! Inode numbers, link counts, and the names that the vault keeps for itself.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;

use crate::common::files::{errno, lstat};
use crate::common::{Mounted, pattern};

each_cache!(
    numbers_are_stable_and_distinct,
    a_number_survives_rename_and_rewrite,
    directories_count_their_children,
    the_vaults_own_directory_is_hidden,
    deep_trees_work,
);

fn numbers_are_stable_and_distinct(mount: Mounted) {
    let mut numbers = HashSet::new();
    let device = lstat(mount.path()).dev();
    for dir in 0..20 {
        let path = mount.join(format!("dir-{dir}"));
        fs::create_dir(&path).unwrap();
        assert!(numbers.insert(lstat(&path).ino()));
        for file in 0..50 {
            let path = path.join(format!("file-{file}"));
            fs::write(&path, b"x").unwrap();
            assert!(numbers.insert(lstat(&path).ino()), "two files have one number");
            assert_eq!(lstat(&path).dev(), device);
        }
    }
    assert!(numbers.insert(lstat(mount.path()).ino()), "the root's number is a file's");
    let all = || {
        let mut all = Vec::new();
        for dir in 0..20 {
            for entry in fs::read_dir(mount.join(format!("dir-{dir}"))).unwrap() {
                let entry = entry.unwrap();
                let by_descriptor = File::open(entry.path()).unwrap().metadata().unwrap().ino();
                assert_eq!(by_descriptor, lstat(entry.path()).ino());
                all.push((entry.path(), by_descriptor));
            }
        }
        all.sort();
        all
    };
    assert_eq!(all(), all());
}

fn a_number_survives_rename_and_rewrite(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 10_000)).unwrap();
    let number = lstat(&path).ino();
    fs::write(&path, b"").unwrap();
    assert_eq!(lstat(&path).ino(), number, "O_TRUNC");
    fs::write(&path, pattern(1, 20_000)).unwrap();
    fs::create_dir(mount.join("dir")).unwrap();
    fs::rename(&path, mount.join("dir/moved")).unwrap();
    assert_eq!(lstat(mount.join("dir/moved")).ino(), number, "rename");
    let mount = mount.remount(&[]);
    // tar, rsync and backup programs compare numbers between runs, so ext4's promise is ours.
    assert_eq!(lstat(mount.join("dir/moved")).ino(), number, "remount");
}

fn directories_count_their_children(mount: Mounted) {
    let dir = mount.join("dir");
    fs::create_dir(&dir).unwrap();
    assert_eq!(lstat(&dir).nlink(), 2);
    for number in 0..5 {
        fs::create_dir(dir.join(number.to_string())).unwrap();
        assert_eq!(lstat(&dir).nlink(), 3 + number);
    }
    fs::write(dir.join("file"), b"x").unwrap();
    assert_eq!(lstat(&dir).nlink(), 7);
    fs::remove_dir(dir.join("0")).unwrap();
    assert_eq!(lstat(&dir).nlink(), 6);
}

fn the_vaults_own_directory_is_hidden(mount: Mounted) {
    if crate::common::vault::bare() {
        return;
    }
    let own = mount.join(".atrest");
    assert!(
        fs::read_dir(mount.path()).unwrap().all(|entry| entry.unwrap().file_name() != ".atrest")
    );
    assert_eq!(errno(fs::symlink_metadata(&own)), libc::ENOENT);
    assert_eq!(errno(fs::read_dir(&own)), libc::ENOENT);
    fs::write(mount.join("file"), b"x").unwrap();
    fs::create_dir(mount.join("dir")).unwrap();
    // No way in may make, replace or move it.
    errno(fs::create_dir(&own));
    errno(fs::write(&own, b"x"));
    errno(fs::remove_dir(&own));
    errno(fs::remove_dir_all(&own));
    errno(fs::rename(mount.join("file"), &own));
    errno(fs::rename(mount.join("dir"), &own));
    errno(fs::rename(&own, mount.join("taken")));
    errno(fs::hard_link(mount.join("file"), &own));
    errno(std::os::unix::fs::symlink("file", &own));
    errno(fs::read(own.join("vault.json")));
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"x");
    // Below the root the name is as good as any.
    fs::create_dir(mount.join("dir/.atrest")).unwrap();
    fs::write(mount.join("dir/.atrest/file"), b"x").unwrap();
    assert_eq!(
        lstat(mount.path()).nlink(),
        3,
        "the hidden directory is counted among the root's children"
    );
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("dir/.atrest/file")).unwrap(), b"x");
}

fn deep_trees_work(mount: Mounted) {
    let mut path = mount.path().to_owned();
    for level in 0..100 {
        path.push(format!("level-{level}"));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("file"), b"deep").unwrap();
    let relative = path.strip_prefix(mount.path()).unwrap().to_owned();
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join(relative).join("file")).unwrap(), b"deep");
    fs::remove_dir_all(mount.join("level-0")).unwrap();
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
}
