//! Memory runs short: the kernel forgets names and inodes, and asks for them again later.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};

use crate::common::files::{lstat, open_rw, read_at};
use crate::common::{Mounted, pattern};
use crate::each_shared_mount;

/// Makes the kernel drop every name and inode that nobody holds, and pages that are clean.
fn drop_caches() {
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop_caches, which root may write");
}

fn make_tree(mount: &Mounted) -> Vec<(String, u64)> {
    let mut made = Vec::new();
    for dir in 0..20 {
        fs::create_dir(mount.join(format!("dir-{dir}"))).unwrap();
        for file in 0..50 {
            let name = format!("dir-{dir}/file-{file}");
            fs::write(mount.join(&name), pattern(file, 3000 + file as usize)).unwrap();
            made.push((name.clone(), lstat(mount.join(&name)).ino()));
        }
    }
    made
}

#[test]
fn what_was_forgotten_is_found_again_under_its_number() {
    each_shared_mount(|mount| {
        let made = make_tree(&mount);
        let forgets =
            |mount: &Mounted| mount.operations("forget") + mount.operations("batch_forget");
        let before = forgets(&mount);
        drop_caches();
        for (name, number) in &made {
            assert_eq!(lstat(mount.join(name)).ino(), *number, "{name}");
        }
        assert!(
            forgets(&mount) > before,
            "the kernel has forgotten nothing: {}",
            mount.status_json()
        );
        // Under other names, below directories that have moved.
        for dir in 0..20 {
            fs::rename(mount.join(format!("dir-{dir}")), mount.join(format!("moved-{dir}")))
                .unwrap();
        }
        drop_caches();
        for (name, number) in &made {
            let name = name.replace("dir-", "moved-");
            assert_eq!(lstat(mount.join(&name)).ino(), *number, "{name}");
        }
    });
}

#[test]
fn what_is_open_is_not_forgotten() {
    each_shared_mount(|mount| {
        fs::create_dir_all(mount.join("a/b")).unwrap();
        let (kept, removed, moved) =
            (mount.join("a/b/kept"), mount.join("a/b/removed"), mount.join("a/b/moved"));
        let files = [&kept, &removed, &moved].map(|path| {
            let file = open_rw(path);
            file.write_all_at(&pattern(0, 20_000), 0).unwrap();
            file
        });
        let dir = fs::File::open(mount.join("a/b")).unwrap();
        let number = dir.metadata().unwrap().ino();
        fs::remove_file(&removed).unwrap();
        fs::rename(&moved, mount.join("elsewhere")).unwrap();
        for round in 0..3u64 {
            drop_caches();
            for (number, file) in files.iter().enumerate() {
                file.write_all_at(b"more", 5000 * round).unwrap();
                assert_eq!(read_at(file, 5000 * round, 4), b"more", "file {number}, round {round}");
                assert_eq!(file.metadata().unwrap().len(), 20_000);
            }
            rustix::fs::mkdirat(&dir, format!("made-{round}"), 0o755.into()).unwrap();
            assert_eq!(dir.metadata().unwrap().ino(), number);
        }
        assert_eq!(fs::read(mount.join("elsewhere")).unwrap(), read_at(&files[0], 0, 30_000));
        drop((files, dir));
    });
}

/// Dirty pages are not lost with the caches, nor is the mtime that goes with them.
#[test]
fn what_is_dirty_is_flushed_first() {
    each_shared_mount(|mount| {
        let path = mount.join("file");
        fs::write(&path, pattern(0, 300_000)).unwrap();
        let before = lstat(&path);
        drop_caches();
        assert_eq!(fs::read(&path).unwrap(), pattern(0, 300_000));
        let after = lstat(&path);
        assert_eq!((after.mtime(), after.mtime_nsec()), (before.mtime(), before.mtime_nsec()));
    });
}
