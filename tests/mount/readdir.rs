//! Listing directories: complete, each entry once, also while others change them.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, Dir, FileType, Mode, RawDir, mknodat};

use crate::common::files::lstat;
use crate::common::{Mounted, Vault, rng};

each_cache!(
    kinds_and_inodes_are_told,
    dots_are_there_once,
    offsets_are_stable,
    removing_while_reading_removes_all
);

/// Entries of the large directory: more than any buffer, cache or reply holds.
const MANY: u32 = 100_000;

fn make_files(dir: &Path, names: impl Iterator<Item = String>) {
    for name in names {
        mknodat(CWD, dir.join(name), FileType::RegularFile, Mode::from_raw_mode(0o644), 0).unwrap();
    }
}

/// Every name that one pass of getdents64 with a small buffer gives, `.` and `..` left out;
/// `between` runs after each buffer.
fn names_of(dir: &Path, mut between: impl FnMut()) -> Vec<String> {
    let mut buffer = vec![MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(File::open(dir).unwrap(), &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let name = entry.unwrap().file_name().to_str().unwrap().to_owned();
        if name != "." && name != ".." {
            names.push(name);
        }
        if entries.is_buffer_empty() {
            between();
        }
    }
    names
}

#[track_caller]
fn assert_each_once(found: &[String], expected: u32) {
    let mut seen = HashSet::new();
    for name in found.iter().filter(|name| name.starts_with("stable-")) {
        assert!(seen.insert(name), "{name} was listed twice");
    }
    let missing =
        (0..expected).map(|number| format!("stable-{number}")).find(|name| !seen.contains(name));
    assert_eq!(missing, None, "not listed; {} of {expected} were", seen.len());
}

/// Entries come and go in the directory while it is read, by this thread between two buffers and
/// by another at any time. Those that were there throughout are listed once.
#[test]
fn a_large_directory_that_changes_while_it_is_read() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let dir = mount.join("large");
    fs::create_dir(&dir).unwrap();
    thread::scope(|scope| {
        for half in 0..2 {
            let names = (half..MANY).step_by(2).map(|number| format!("stable-{number}"));
            let dir = &dir;
            scope.spawn(move || make_files(dir, names));
        }
    });
    for number in 0..2000 {
        fs::write(dir.join(format!("before-{number}")), b"").unwrap();
    }
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0u32.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                let name = dir.join(format!("churn-{}", round % 500));
                fs::write(&name, b"").unwrap();
                if round % 3 == 0 {
                    fs::rename(&name, dir.join(format!("moved-{}", round % 500))).unwrap();
                } else {
                    fs::remove_file(&name).unwrap();
                }
            }
        });
        let mut number = 0;
        let mut change = || {
            // Before, behind and around the place that the reader has come to.
            let _ = fs::remove_file(dir.join(format!("before-{number}")));
            fs::write(dir.join(format!("during-{number}")), b"").unwrap();
            let _ = fs::rename(
                dir.join(format!("before-{}", number + 1000)),
                dir.join(format!("renamed-{number}")),
            );
            number += 1;
        };
        for _ in 0..2 {
            assert_each_once(&names_of(&dir, &mut change), MANY);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_each_once(&names_of(&dir, || {}), MANY);
    // And as ls and find read it, on a mount that has nothing cached.
    let mount = mount.remount(&[]);
    let dir = mount.join("large");
    let listed: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_each_once(&listed, MANY);
}

fn kinds_and_inodes_are_told(mount: Mounted) {
    fs::write(mount.join("file"), b"x").unwrap();
    fs::create_dir(mount.join("dir")).unwrap();
    symlink("file", mount.join("link")).unwrap();
    mknodat(CWD, mount.join("fifo"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::hard_link(mount.join("file"), mount.join("second")).unwrap();
    let check = |mount: &Mounted| {
        let mut kinds = HashMap::new();
        for entry in Dir::new(File::open(mount.path()).unwrap()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_str().unwrap().to_owned();
            if name != "." && name != ".." {
                assert_eq!(entry.ino(), lstat(mount.join(&name)).ino(), "{name}");
                kinds.insert(name, entry.file_type());
            }
        }
        assert_eq!(kinds.len(), 5, "{kinds:?}");
        assert_eq!(kinds["file"], FileType::RegularFile);
        assert_eq!(kinds["second"], FileType::RegularFile);
        assert_eq!(kinds["dir"], FileType::Directory);
        assert_eq!(kinds["link"], FileType::Symlink);
        assert_eq!(kinds["fifo"], FileType::Fifo);
    };
    check(&mount);
    check(&mount.remount(&[]));
}

fn dots_are_there_once(mount: Mounted) {
    fs::create_dir_all(mount.join("a/b")).unwrap();
    for (dir, parent) in [("a/b", "a"), ("a", ""), ("", "")] {
        let entries: Vec<_> = Dir::new(File::open(mount.join(dir)).unwrap())
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        let of = |name: &[u8]| {
            entries.iter().filter(|entry| entry.file_name().to_bytes() == name).collect::<Vec<_>>()
        };
        let (dot, dots) = (of(b"."), of(b".."));
        assert_eq!((dot.len(), dots.len()), (1, 1), "{dir}");
        // `..` of the root lies outside; what number it has there is the kernel's affair.
        if !dir.is_empty() {
            assert_eq!(dot[0].ino(), lstat(mount.join(dir)).ino(), "{dir}");
            assert_eq!(dots[0].ino(), lstat(mount.join(parent)).ino(), "{dir}");
        }
    }
}

/// telldir and seekdir: from an offset on come the entries that came after it the first time,
/// whatever was added or removed elsewhere.
fn offsets_are_stable(mount: Mounted) {
    let dir = mount.join("dir");
    fs::create_dir(&dir).unwrap();
    make_files(&dir, (0..3000).map(|number| format!("stable-{number}")));
    let read_all = |entries: &mut Dir| {
        let mut all = Vec::new();
        while let Some(entry) = entries.read() {
            let entry = entry.unwrap();
            all.push((entry.file_name().to_str().unwrap().to_owned(), entry.offset()));
        }
        all
    };
    let mut entries = Dir::new(File::open(&dir).unwrap()).unwrap();
    let first = read_all(&mut entries);
    assert_eq!(first.len(), 3002);
    let offsets: HashSet<i64> = first.iter().map(|(_, offset)| *offset).collect();
    assert_eq!(offsets.len(), first.len(), "two entries have one offset");
    use rand::RngExt;
    let mut random = rng(1);
    for round in 0..60 {
        fs::write(dir.join(format!("other-{round}")), b"").unwrap();
        if round % 2 == 1 {
            fs::remove_file(dir.join(format!("other-{}", round - 1))).unwrap();
        }
        let at = random.random_range(0..first.len() - 1);
        entries.seek(first[at].1).unwrap();
        let rest: Vec<String> = read_all(&mut entries)
            .into_iter()
            .map(|(name, _)| name)
            .filter(|name| !name.starts_with("other-"))
            .collect();
        let expected: Vec<String> = first[at + 1..].iter().map(|(name, _)| name.clone()).collect();
        assert!(
            rest == expected,
            "seek to entry {at}: {} entries follow, {} expected",
            rest.len(),
            expected.len()
        );
    }
    entries.rewind();
    assert!(read_all(&mut entries).len() >= 3002);
}

/// What `rm -r` does.
fn removing_while_reading_removes_all(mount: Mounted) {
    let dir = mount.join("dir");
    fs::create_dir(&dir).unwrap();
    make_files(&dir, (0..5000).map(|number| format!("stable-{number}")));
    for entry in fs::read_dir(&dir).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    fs::remove_dir(&dir).unwrap();
}
