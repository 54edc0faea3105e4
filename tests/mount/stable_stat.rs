//! What stat said of a file, it says until somebody changes the file: after an eviction from the
//! kernel's cache, a remount, a rotation and a rewrap. Backup programs rely on it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Timespec, Timestamps, XattrFlags, copy_file_range, fallocate,
    setxattr, utimensat,
};

use crate::common::files::{ctime_ns, lstat, mtime_ns, open_rw};
use crate::common::users::is_root;
use crate::common::{Mapping, Mounted, pattern};

each_cache!(
    every_change_shows_and_what_stat_says_stays,
    a_read_alone_moves_atime,
    ftruncate_to_the_same_length_counts_as_a_change,
);

/// Longer than a tick of the clock that files get their times from.
const TICK: Duration = Duration::from_millis(15);

/// Several blocks, and not a whole number of them.
const LEN: usize = 50_000;

type Way = (&'static str, fn(&Path));

/// Ways to change content: mtime and ctime move on.
const CONTENT: [Way; 12] = [
    ("write", |path| open_rw(path).write_all_at(b"new", 5000).unwrap()),
    ("append", |path| appending(path).write_all(&pattern(1, 3000)).unwrap()),
    ("make anew", |path| fs::write(path, pattern(2, LEN)).unwrap()),
    ("mapping", |path| {
        let mut mapping = Mapping::shared(&open_rw(path), LEN).unwrap();
        mapping.bytes_mut()[6000] ^= 1;
    }),
    ("grow", |path| open_rw(path).set_len(LEN as u64 + 9000).unwrap()),
    ("shrink", |path| open_rw(path).set_len(20_001).unwrap()),
    ("fallocate", |path| {
        fallocate(open_rw(path), FallocateFlags::empty(), 0, LEN as u64 + 5000).unwrap();
    }),
    ("punch", |path| {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(open_rw(path), punch, 100, 20_000).unwrap();
    }),
    ("zero", |path| fallocate(open_rw(path), FallocateFlags::ZERO_RANGE, 100, 20_000).unwrap()),
    ("copy_file_range", |path| {
        let source = File::open(path.with_file_name("source")).unwrap();
        copy_file_range(source, Some(&mut 0), open_rw(path), Some(&mut 9000), 8000).unwrap();
    }),
    ("splice", |path| {
        let (read, mut write) = std::io::pipe().unwrap();
        write.write_all(&pattern(3, 4000)).unwrap();
        let (file, mut at) = (open_rw(path), 0);
        let (from, to, none) = (read.as_raw_fd(), file.as_raw_fd(), std::ptr::null_mut());
        // SAFETY: both descriptors are open, and `at` outlives the call.
        let moved = unsafe { libc::splice(from, none, to, &mut at, 4000, 0) };
        assert_eq!(moved, 4000);
    }),
    ("direct", |path| {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).unwrap();
        let room = vec![7; 3 * 4096];
        let start = room.as_ptr().align_offset(4096);
        file.write_all_at(&room[start..start + 4096], 4096).unwrap();
    }),
];

/// Ways to change the rest: ctime moves on.
const REST: [Way; 6] = [
    ("chmod", |path| fs::set_permissions(path, Permissions::from_mode(0o751)).unwrap()),
    ("utimes", |path| {
        let at = |tv_sec| Timespec { tv_sec, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: at(1_111), last_modification: at(2_222) };
        utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
    }),
    ("setxattr", |path| setxattr(path, "user.a", b"value", XattrFlags::empty()).unwrap()),
    ("link", |path| fs::hard_link(path, path.with_extension("link")).unwrap()),
    ("rename", |path| {
        fs::rename(path, path.with_extension("new")).unwrap();
        fs::rename(path.with_extension("new"), path).unwrap();
    }),
    ("write and chmod", |path| {
        let mut file = appending(path);
        file.write_all(b"more").unwrap();
        file.set_permissions(Permissions::from_mode(0o640)).unwrap();
    }),
];

fn appending(path: &Path) -> File {
    OpenOptions::new().append(true).open(path).unwrap()
}

/// What stat says of each file, but for what no eviction can change.
fn stats(mount: &Mounted) -> BTreeMap<String, String> {
    let entries = fs::read_dir(mount.path()).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let meta = lstat(entry.path());
            let stat = format!(
                "inode {} mode {:o} links {} size {} blocks {} atime {}.{} mtime {}.{} ctime {}.{}",
                meta.ino(),
                meta.mode(),
                meta.nlink(),
                meta.size(),
                meta.blocks(),
                meta.atime(),
                meta.atime_nsec(),
                meta.mtime(),
                meta.mtime_nsec(),
                meta.ctime(),
                meta.ctime_nsec()
            );
            (entry.file_name().into_string().unwrap(), stat)
        })
        .collect()
}

#[track_caller]
fn assert_stable(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, what: &str) {
    let moved: Vec<_> =
        before.iter().filter(|(name, stat)| after.get(*name) != Some(*stat)).collect();
    let after: Vec<_> = moved.iter().map(|(name, _)| after.get(*name)).collect();
    assert!(moved.is_empty(), "{what}: {moved:#?} became {after:#?}");
}

/// Has the kernel forget what nobody uses.
fn evict() {
    if is_root() {
        rustix::fs::sync();
        let _ = fs::write("/proc/sys/vm/drop_caches", "2");
    }
}

fn every_change_shows_and_what_stat_says_stays(mount: Mounted) {
    fs::write(mount.join("source"), pattern(9, LEN)).unwrap();
    for (name, _) in CONTENT.iter().chain(&REST) {
        fs::write(mount.join(name), pattern(0, LEN)).unwrap();
    }
    for (name, change) in CONTENT.iter().chain(&REST) {
        let path = mount.join(name);
        let (mtime, ctime) = (mtime_ns(&path), ctime_ns(&path));
        sleep(TICK);
        change(&path);
        assert!(ctime_ns(&path) > ctime, "{name} left ctime");
        let is_content = CONTENT.iter().any(|(content, _)| content == name);
        assert!(!is_content || mtime_ns(&path) > mtime, "{name} left mtime");
    }
    let first = stats(&mount);
    evict();
    assert_stable(&first, &stats(&mount), "eviction");
    let mount = mount.remount(&[]);
    assert_stable(&first, &stats(&mount), "remount");
    // Under the kernel's eyes, and in a mount that knows nothing yet.
    for round in ["rewrap of a mount", "rewrap of a new mount"] {
        mount.vault().run(&["key", "rotate"]).ok();
        mount.vault().run(&["key", "rewrap"]).ok();
        assert_stable(&first, &stats(&mount), round);
        evict();
        assert_stable(&first, &stats(&mount), &format!("{round}, eviction"));
    }
    let vault = mount.vault().clone();
    mount.unmount();
    vault.run(&["key", "rotate"]).ok();
    vault.run(&["key", "rewrap"]).ok();
    let mount = vault.mount(&[]);
    assert_stable(&first, &stats(&mount), "rewrap without a mount");
    // What is changed now shows.
    for (name, _) in CONTENT.iter().chain(&REST) {
        let ctime = ctime_ns(mount.join(name));
        fs::set_permissions(mount.join(name), Permissions::from_mode(0o600)).unwrap();
        assert!(ctime_ns(mount.join(name)) > ctime, "{name} left ctime at last");
    }
}

fn atime(path: &Path) -> (i64, i64) {
    let meta = lstat(path);
    (meta.atime(), meta.atime_nsec())
}

fn a_read_alone_moves_atime(mount: Mounted) {
    let path = mount.join("file");
    let noatime =
        |path: &Path| File::options().read(true).custom_flags(libc::O_NOATIME).open(path).unwrap();
    fs::write(&path, pattern(0, LEN)).unwrap();
    let mut mount = mount;
    for (what, quiet) in [
        ("open", (|path| drop(open_rw(path))) as fn(&Path)),
        ("append", |path| appending(path).write_all(b"more").unwrap()),
        ("partial write", |path| {
            File::options().write(true).open(path).unwrap().write_all_at(b"x", 5000).unwrap();
        }),
    ] {
        mount = mount.remount(&[]);
        let before = atime(&mount.join("file"));
        sleep(TICK);
        quiet(&mount.join("file"));
        assert_eq!(atime(&mount.join("file")), before, "{what} moved atime");
    }
    mount = mount.remount(&[]);
    let path = mount.join("file");
    let writer = File::options().write(true).open(&path).unwrap();
    let reader = File::open(&path).unwrap();
    sleep(TICK);
    reader.read_exact_at(&mut [0; 100], 0).unwrap();
    let before = atime(&path);
    // The first makes a time of access older than the change; the second reads back.
    for offset in [LEN as u64 / 2 + 5000, LEN as u64 / 2 + 9000] {
        sleep(TICK);
        writer.write_all_at(b"x", offset).unwrap();
        writer.sync_data().unwrap();
    }
    assert_eq!(atime(&path), before, "a partial write after a read moved atime");
    let new = mount.join("new");
    let made = File::create(&new).unwrap();
    made.write_all_at(&pattern(0, LEN), 0).unwrap();
    made.sync_data().unwrap();
    let before_change = atime(&new);
    evict();
    sleep(TICK);
    made.write_all_at(b"x", 5000).unwrap();
    made.sync_data().unwrap();
    assert_eq!(atime(&new), before_change, "a partial write of a new file moved atime");
    drop((writer, reader, made));
    mount = mount.remount(&[]);
    let path = mount.join("file");
    let before = atime(&path);
    noatime(&path).read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(atime(&path), before, "O_NOATIME");
    mount = mount.remount(&["-o", "noatime"]);
    let path = mount.join("file");
    fs::read(&path).unwrap();
    assert_eq!(atime(&path), before, "a mount with noatime");
    mount = mount.remount(&[]);
    let path = mount.join("file");
    sleep(TICK);
    fs::read(&path).unwrap();
    let read = atime(&path);
    assert!(read > before, "a read left atime");
    // By then it is later than any change.
    mount = mount.remount(&[]);
    let path = mount.join("file");
    fs::read(&path).unwrap();
    assert_eq!(atime(&path), read, "a second read");
    mount = mount.remount(&["-o", "strictatime"]);
    let path = mount.join("file");
    let (mtime, ctime) = (mtime_ns(&path), ctime_ns(&path));
    fs::read(&path).unwrap();
    let strict = atime(&path);
    assert!(strict > read, "a read of a mount with strictatime");
    let mount = mount.remount(&[]);
    let path = mount.join("file");
    assert_eq!(atime(&path), strict, "after a remount");
    assert_eq!((mtime_ns(&path), ctime_ns(&path)), (mtime, ctime), "a read moved another time");
}

fn ftruncate_to_the_same_length_counts_as_a_change(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, LEN)).unwrap();
    let (mtime, ctime) = (mtime_ns(&path), ctime_ns(&path));
    sleep(TICK);
    open_rw(&path).set_len(LEN as u64).unwrap();
    assert!(mtime_ns(&path) > mtime && ctime_ns(&path) > ctime);
    let changed = (mtime_ns(&path), ctime_ns(&path));
    let mount = mount.remount(&[]);
    let path = mount.join("file");
    assert_eq!((mtime_ns(&path), ctime_ns(&path)), changed);
}
