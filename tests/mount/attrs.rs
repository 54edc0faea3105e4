//! Mode, owner, size, and what a change of them leaves behind. Other users' part is in tests/root.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use rustix::fs::{AtFlags, CWD, StatxFlags, chmod, fchmod, statfs, statx};

use crate::common::files::{assert_same, ctime_ns, errno, lstat, mode, mtime_ns};
use crate::common::{Mounted, Vault, pattern};

each_cache!(
    chmod_sets_every_bit,
    modes_survive_a_remount,
    size_and_blocks_follow_the_content,
    a_file_that_is_being_written_has_blocks,
    sparse_aware_programs_copy_a_file_that_is_being_written,
);

fn chmod_sets_every_bit(mount: Mounted) {
    let (file, dir) = (mount.join("file"), mount.join("dir"));
    fs::write(&file, b"x").unwrap();
    fs::create_dir(&dir).unwrap();
    for bits in [0o000, 0o444, 0o200, 0o777, 0o1777, 0o2755, 0o4711, 0o6755, 0o7777, 0o640] {
        for path in [&file, &dir] {
            let before = ctime_ns(path);
            fs::set_permissions(path, Permissions::from_mode(bits)).unwrap();
            assert_eq!(mode(path), bits, "{}", path.display());
            assert!(ctime_ns(path) >= before);
        }
    }
    let open = File::open(&file).unwrap();
    fchmod(&open, 0o604.into()).unwrap();
    assert_eq!(open.metadata().unwrap().mode() & 0o7777, 0o604);
}

fn modes_survive_a_remount(mount: Mounted) {
    let modes = [0o000, 0o444, 0o200, 0o640, 0o1777, 0o6755];
    for bits in modes {
        let path = mount.join(format!("{bits:o}"));
        fs::write(&path, pattern(0, 5000)).unwrap();
        chmod(&path, bits.into()).unwrap();
    }
    let mount = mount.remount(&[]);
    for bits in modes {
        assert_eq!(mode(mount.join(format!("{bits:o}"))), bits);
    }
}

fn size_and_blocks_follow_the_content(mount: Mounted) {
    for length in crate::boundaries() {
        let path = mount.join(length.to_string());
        fs::write(&path, pattern(0, length as usize)).unwrap();
        assert_eq!(lstat(&path).len(), length);
    }
    let mount = mount.remount(&[]);
    for length in crate::boundaries() {
        let meta = lstat(mount.join(length.to_string()));
        assert_eq!(meta.len(), length);
        // du and tar take blocks for a sign of data.
        assert_eq!(meta.blocks() == 0, length == 0, "blocks of a file of {length} bytes");
        assert!(
            meta.blocks() * 512 <= length + 8192 + length / 16,
            "blocks of a file of {length} bytes"
        );
    }
}

/// Programs take a file without blocks for one of zeros, however long.
fn a_file_that_is_being_written_has_blocks(mount: Mounted) {
    let (made, touched, emptied) = (mount.join("made"), mount.join("touched"), mount.join("cut"));
    let content = pattern(0, 2_000_000);
    fs::write(&touched, b"").unwrap();
    fs::write(&emptied, &content).unwrap();
    let open = [
        (made.clone(), File::create(&made).unwrap()),
        (touched.clone(), File::options().append(true).open(&touched).unwrap()),
        (emptied.clone(), File::create(&emptied).unwrap()),
    ];
    for (path, file) in &open {
        let mut file = file;
        lstat(path);
        file.write_all(&content).unwrap();
        for sync in [false, true] {
            if sync {
                file.sync_all().unwrap();
            }
            assert_ne!(lstat(path).blocks(), 0, "{} synced: {sync}", path.display());
            fs::read_dir(mount.path()).unwrap().for_each(|entry| {
                let entry = entry.unwrap();
                assert_ne!(entry.metadata().unwrap().blocks(), 0, "{entry:?} synced: {sync}");
            });
        }
    }
    // A log that grows: its space is about right while it does.
    let mut log = &open[0].1;
    for _ in 0..30 {
        log.write_all(&content).unwrap();
        log.sync_all().unwrap();
        let (len, blocks) = (lstat(&made).len(), lstat(&made).blocks());
        assert!(blocks * 512 >= len / 3, "{blocks} blocks of a file of {len} bytes");
    }
}

fn sparse_aware_programs_copy_a_file_that_is_being_written(mount: Mounted) {
    let path = mount.join("file");
    let content = pattern(7, 2_000_000);
    let mut file = File::create(&path).unwrap();
    file.write_all(&content).unwrap();
    let run = |command: &str| {
        let status = Command::new("sh").args(["-c", command]).current_dir(mount.path()).status();
        assert!(status.unwrap().success(), "{command}");
    };
    run("tar -cSf archive file && mkdir out && tar -xf archive -C out");
    run("cp --sparse=auto file copy");
    for copy in ["out/file", "copy"] {
        assert_same(&fs::read(mount.join(copy)).unwrap(), &content, copy);
    }
}

/// The size of a file is known without its key, so a listing opens nothing (promise 1).
#[test]
fn a_listing_reads_no_file() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    for number in 0..50 {
        fs::write(mount.join(number.to_string()), pattern(0, number * 97)).unwrap();
    }
    let mount = mount.remount(&[]);
    for number in 0..50 {
        assert_eq!(lstat(mount.join(number.to_string())).len(), number as u64 * 97);
    }
    let status = mount.status_json();
    let opened: u64 = ["open", "read"].iter().map(|name| mount.operations(name)).sum();
    assert_eq!(opened, 0, "{status}");
}

#[test]
fn birth_time_is_told_and_stays() {
    let mount = Vault::init().mount(&[]);
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    let birth = || {
        let stat = statx(
            CWD,
            &path,
            AtFlags::SYMLINK_NOFOLLOW,
            StatxFlags::BTIME | StatxFlags::BASIC_STATS,
        )
        .unwrap();
        (stat.stx_mask & StatxFlags::BTIME.bits() != 0)
            .then_some((stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec))
    };
    // FUSE_STATX is beyond fuser, so a birth time may be missing; one that is told must not move.
    let first = birth();
    fs::write(&path, b"xy").unwrap();
    assert_eq!(birth(), first);
}

#[test]
fn statfs_tells_of_the_backing_directory() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let (above, below) = (statfs(mount.path()).unwrap(), statfs(vault.path()).unwrap());
    let bytes = |blocks: u64, stat: &rustix::fs::StatFs| blocks as u128 * stat.f_bsize as u128;
    let total = bytes(above.f_blocks, &above);
    assert_eq!(total, bytes(below.f_blocks, &below));
    let slack = total / 4;
    assert!(bytes(above.f_bavail, &above).abs_diff(bytes(below.f_bavail, &below)) <= slack);
    assert_eq!(above.f_files, below.f_files);
    assert_eq!(above.f_namelen, 255);
    let longest = "n".repeat(255);
    fs::write(mount.join(&longest), b"x").unwrap();
    assert_eq!(errno(fs::write(mount.join("n".repeat(256)), b"x")), libc::ENAMETOOLONG);
}

#[test]
fn a_change_of_mode_moves_no_mtime() {
    let mount = Vault::init().mount(&[]);
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    let before = mtime_ns(&path);
    chmod(&path, 0o600.into()).unwrap();
    assert_eq!(mtime_ns(&path), before);
}
