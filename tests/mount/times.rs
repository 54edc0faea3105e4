//! Access and modification times: set to the nanosecond, kept by a flush, never moved by a look.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, futimens, utimensat};

use crate::common::files::{ctime_ns, lstat, mtime_ns, open_rw};
use crate::common::{Mapping, Mounted, pattern};

each_cache!(
    times_are_set_to_the_nanosecond,
    now_and_omit_do_what_they_say,
    times_before_1970_and_far_ahead_are_kept,
    a_symlink_has_times_of_its_own,
    a_set_mtime_survives_the_flush_of_earlier_writes,
    a_set_mtime_survives_a_dirty_mapping,
    mtime_stays_from_write_to_remount,
    a_stat_does_not_move_mtime_back,
    writes_move_mtime_on,
    directories_follow_their_entries,
    a_read_moves_no_mtime,
    a_store_through_a_mapping_moves_mtime,
);

const TICK: Duration = Duration::from_millis(30);

fn spec(sec: i64, nsec: i64) -> Timespec {
    Timespec { tv_sec: sec, tv_nsec: nsec }
}

fn set(path: &Path, atime: Timespec, mtime: Timespec) {
    let times = Timestamps { last_access: atime, last_modification: mtime };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn times(path: &Path) -> ((i64, i64), (i64, i64)) {
    let meta = lstat(path);
    ((meta.atime(), meta.atime_nsec()), (meta.mtime(), meta.mtime_nsec()))
}

fn now_ns() -> i128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i128
}

fn times_are_set_to_the_nanosecond(mount: Mounted) {
    let (file, dir) = (mount.join("file"), mount.join("dir"));
    fs::write(&file, pattern(0, 10_000)).unwrap();
    fs::create_dir(&dir).unwrap();
    for path in [&file, &dir] {
        set(path, spec(1_111_111_111, 123_456_789), spec(1_222_222_222, 987_654_321));
        assert_eq!(times(path), ((1_111_111_111, 123_456_789), (1_222_222_222, 987_654_321)));
    }
    let mount = mount.remount(&[]);
    for path in [mount.join("file"), mount.join("dir")] {
        assert_eq!(times(&path).1, (1_222_222_222, 987_654_321), "{}", path.display());
        assert_eq!(times(&path).0, (1_111_111_111, 123_456_789), "{}", path.display());
    }
}

fn now_and_omit_do_what_they_say(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    set(&path, spec(1000, 1), spec(2000, 2));
    let ctime = ctime_ns(&path);
    sleep(TICK);
    set(&path, spec(0, UTIME_OMIT), spec(3000, 3));
    assert_eq!(times(&path), ((1000, 1), (3000, 3)));
    assert!(ctime_ns(&path) > ctime);
    set(&path, spec(4000, 4), spec(0, UTIME_OMIT));
    assert_eq!(times(&path), ((4000, 4), (3000, 3)));
    let ctime = ctime_ns(&path);
    set(&path, spec(0, UTIME_OMIT), spec(0, UTIME_OMIT));
    assert_eq!(times(&path), ((4000, 4), (3000, 3)));
    assert_eq!(ctime_ns(&path), ctime);
    let before = now_ns() - 50_000_000;
    set(&path, spec(0, UTIME_OMIT), spec(0, UTIME_NOW));
    assert!(mtime_ns(&path) >= before && mtime_ns(&path) <= now_ns());
    assert_eq!(times(&path).0, (4000, 4));
    let open = open_rw(&path);
    let times_of_fd = Timestamps { last_access: spec(5000, 5), last_modification: spec(6000, 6) };
    futimens(&open, &times_of_fd).unwrap();
    assert_eq!(times(&path), ((5000, 5), (6000, 6)));
}

fn times_before_1970_and_far_ahead_are_kept(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    // 2106 is past the 32 unsigned bits, 1960 below zero: ext4 of 256-byte inodes keeps both.
    for seconds in [-315_619_200, 0, 4_294_967_296 + 1000] {
        set(&path, spec(seconds, 5), spec(seconds, 7));
        assert_eq!(times(&path), ((seconds, 5), (seconds, 7)));
    }
}

fn a_symlink_has_times_of_its_own(mount: Mounted) {
    let (target, link) = (mount.join("target"), mount.join("link"));
    fs::write(&target, b"x").unwrap();
    std::os::unix::fs::symlink("target", &link).unwrap();
    set(&target, spec(10, 0), spec(20, 0));
    set(&link, spec(30, 1), spec(40, 2));
    assert_eq!(times(&link).1, (40, 2));
    assert_eq!(times(&target), ((10, 0), (20, 0)));
}

/// What `cp -p`, `rsync -t` and `tar x` do: write, set the time, close. The flush of the written
/// pages comes after and must not count as a new write.
fn a_set_mtime_survives_the_flush_of_earlier_writes(mount: Mounted) {
    for (name, length) in [("small", 10), ("block", 3808), ("large", 300_000)] {
        let path = mount.join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(&pattern(0, length)).unwrap();
        let times_of_fd =
            Timestamps { last_access: spec(5000, 5), last_modification: spec(6000, 6) };
        futimens(&file, &times_of_fd).unwrap();
        sleep(TICK);
        file.sync_all().unwrap();
        drop(file);
        assert_eq!(times(&path).1, (6000, 6), "{name}");
    }
    let mount = mount.remount(&[]);
    for name in ["small", "block", "large"] {
        assert_eq!(times(&mount.join(name)).1, (6000, 6), "{name} after a remount");
    }
}

fn a_set_mtime_survives_a_dirty_mapping(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 8192)).unwrap();
    let file = open_rw(&path);
    let mut mapping = Mapping::shared(&file, 8192).unwrap();
    mapping.bytes_mut()[5000] = 0xAA;
    mapping.sync().unwrap();
    drop(mapping);
    drop(file);
    set(&path, spec(5000, 5), spec(6000, 6));
    let mount = mount.remount(&[]);
    assert_eq!(times(&mount.join("file")).1, (6000, 6));
}

fn mtime_stays_from_write_to_remount(mount: Mounted) {
    let mut seen = Vec::new();
    for length in [1, 3808, 100_000] {
        let path = mount.join(length.to_string());
        let mut file = File::create(&path).unwrap();
        file.write_all(&pattern(0, length)).unwrap();
        let written = mtime_ns(&path);
        sleep(TICK);
        drop(file);
        assert_eq!(mtime_ns(&path), written, "close moved the mtime of {length} bytes");
        sleep(TICK);
        File::open(&path).unwrap().sync_all().unwrap();
        assert_eq!(mtime_ns(&path), written, "fsync moved the mtime of {length} bytes");
        seen.push((length, written));
    }
    let mount = mount.remount(&[]);
    for (length, written) in seen {
        assert_eq!(
            mtime_ns(mount.join(length.to_string())),
            written,
            "{length} bytes after a remount"
        );
    }
}

/// With the writeback cache the daemon's own mtime is older than the kernel's until the flush.
fn a_stat_does_not_move_mtime_back(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 4096)).unwrap();
    let file = open_rw(&path);
    let mut latest = mtime_ns(&path);
    for round in 0..20 {
        sleep(Duration::from_millis(5));
        file.write_all_at(&[round], u64::from(round) * 400).unwrap();
        for _ in 0..3 {
            // A stat, a listing with attributes, and a stat by descriptor are three ways in.
            fs::read_dir(mount.path())
                .unwrap()
                .for_each(|entry| assert!(entry.unwrap().metadata().is_ok()));
            let by_fd = file.metadata().unwrap();
            let by_fd = i128::from(by_fd.mtime()) * 1_000_000_000 + i128::from(by_fd.mtime_nsec());
            let by_name = mtime_ns(&path);
            assert!(by_name >= latest && by_fd >= latest, "round {round}: mtime went back");
            latest = by_name.max(by_fd);
        }
        if round % 5 == 0 {
            file.sync_data().unwrap();
        }
    }
}

fn writes_move_mtime_on(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    set(&path, spec(1000, 0), spec(1000, 0));
    let file = open_rw(&path);
    file.write_all_at(b"y", 0).unwrap();
    assert!(times(&path).1.0 > 1_000_000, "write");
    set(&path, spec(1000, 0), spec(1000, 0));
    file.set_len(100).unwrap();
    assert!(times(&path).1.0 > 1_000_000, "ftruncate");
    set(&path, spec(1000, 0), spec(1000, 0));
    File::create(&path).unwrap();
    assert!(times(&path).1.0 > 1_000_000, "O_TRUNC");
}

fn directories_follow_their_entries(mount: Mounted) {
    let dir = mount.join("dir");
    fs::create_dir(&dir).unwrap();
    let step = |what: &str, change: &dyn Fn()| {
        set(&dir, spec(1000, 0), spec(1000, 0));
        change();
        assert!(times(&dir).1.0 > 1_000_000, "{what} left the directory's mtime");
    };
    step("create", &|| fs::write(dir.join("a"), b"x").unwrap());
    step("rename", &|| fs::rename(dir.join("a"), dir.join("b")).unwrap());
    step("link", &|| fs::hard_link(dir.join("b"), dir.join("c")).unwrap());
    step("unlink", &|| fs::remove_file(dir.join("c")).unwrap());
    step("mkdir", &|| fs::create_dir(dir.join("d")).unwrap());
    step("rmdir", &|| fs::remove_dir(dir.join("d")).unwrap());
    step("symlink", &|| std::os::unix::fs::symlink("b", dir.join("s")).unwrap());
}

fn a_read_moves_no_mtime(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 20_000)).unwrap();
    let (mtime, ctime) = (mtime_ns(&path), ctime_ns(&path));
    sleep(TICK);
    fs::read(&path).unwrap();
    fs::read_dir(mount.path()).unwrap().count();
    assert_eq!((mtime_ns(&path), ctime_ns(&path)), (mtime, ctime));
}

fn a_store_through_a_mapping_moves_mtime(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, pattern(0, 8192)).unwrap();
    set(&path, spec(1000, 0), spec(1000, 0));
    let file = open_rw(&path);
    let mut mapping = Mapping::shared(&file, 8192).unwrap();
    mapping.bytes_mut()[5000] = 0xAA;
    mapping.sync().unwrap();
    assert!(times(&path).1.0 > 1_000_000, "after msync");
    drop(mapping);
    drop(file);
    let mount = mount.remount(&[]);
    assert!(times(&mount.join("file")).1.0 > 1_000_000, "after a remount");
}
