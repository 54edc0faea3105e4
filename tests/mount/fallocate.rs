//! fallocate(2): space ahead, holes, zeros; what moves bytes is refused.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

use rustix::fs::FallocateFlags;

use crate::common::files::{errno, lstat};
use crate::common::{Mounted, Twin, pattern};

each_cache!(
    allocation_extends_with_zeros,
    keep_size_keeps_the_size,
    holes_at_every_boundary,
    a_hole_gives_space_back,
    zeros_at_every_boundary,
    zeros_past_the_end,
    what_moves_bytes_is_refused,
    holes_and_zeros_mixed_with_writes,
);

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const ZERO_KEEP: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

/// Makes each file, checks it, and checks it again from the disk.
fn each_file(mount: Mounted, names: &[String], make: impl Fn(&str, &mut Twin)) {
    let mut kept = Vec::new();
    for name in names {
        let mut twin = Twin::empty(mount.join(name));
        make(name, &mut twin);
        twin.check(name);
        kept.push((name, twin.expected));
    }
    let mount = mount.remount(&[]);
    for (name, expected) in kept {
        let found = fs::read(mount.join(name)).unwrap();
        crate::common::files::assert_same(&found, &expected, &format!("{name} after a remount"));
    }
}

/// Names like `offset-length`, for every boundary as an offset and as a length.
fn ranges() -> Vec<String> {
    let offsets = crate::boundaries();
    let lengths = [1, 255, 3808, 4064, 4096, 8128, 20_000];
    offsets.iter().flat_map(|offset| lengths.map(|length| format!("{offset}-{length}"))).collect()
}

fn parse(name: &str) -> (u64, u64) {
    let (offset, length) = name.split_once('-').unwrap();
    (offset.parse().unwrap(), length.parse().unwrap())
}

fn allocation_extends_with_zeros(mount: Mounted) {
    each_file(mount, &ranges(), |name, twin| {
        let (length, more) = parse(name);
        twin.write(0, &pattern(0, length as usize)).unwrap();
        twin.fallocate(FallocateFlags::empty(), length / 2, more).unwrap();
        twin.check("allocated over the end");
        twin.fallocate(FallocateFlags::empty(), length + more, 1).unwrap();
    });
}

fn keep_size_keeps_the_size(mount: Mounted) {
    each_file(mount, &ranges(), |name, twin| {
        let (length, more) = parse(name);
        twin.write(0, &pattern(0, length as usize)).unwrap();
        twin.fallocate(FallocateFlags::KEEP_SIZE, length, more).unwrap();
        twin.check("space behind the end");
        twin.file.sync_all().unwrap();
        twin.write(length, &pattern(length, 100)).unwrap();
    });
}

fn holes_at_every_boundary(mount: Mounted) {
    each_file(mount, &ranges(), |name, twin| {
        let (offset, length) = parse(name);
        twin.write(0, &pattern(0, 30_000)).unwrap();
        if length % 2 == 0 {
            twin.file.sync_all().unwrap();
        }
        twin.fallocate(PUNCH, offset, length).unwrap();
        twin.check("punched");
        twin.write(offset + length / 2, b"in the hole").unwrap();
    });
}

fn a_hole_gives_space_back(mount: Mounted) {
    let mut twin = Twin::empty(mount.join("file"));
    twin.write(0, &pattern(0, 4 << 20)).unwrap();
    twin.file.sync_all().unwrap();
    let full = lstat(mount.vault().path().join("file")).blocks();
    twin.fallocate(PUNCH, 1 << 20, 2 << 20).unwrap();
    twin.file.sync_all().unwrap();
    twin.check("punched");
    let vault = mount.vault().clone();
    if !crate::common::vault::bare() {
        let left = lstat(vault.path().join("file")).blocks();
        assert!(
            left * 512 < full * 512 - (2 << 20) + 64 * 1024,
            "{full} blocks before, {left} after"
        );
    }
    assert!(lstat(mount.join("file")).blocks() * 512 < (2 << 20) + 128 * 1024);
}

fn zeros_at_every_boundary(mount: Mounted) {
    each_file(mount, &ranges(), |name, twin| {
        let (offset, length) = parse(name);
        twin.write(0, &pattern(0, 30_000)).unwrap();
        zero_range(twin, ZERO_KEEP, offset, length);
        twin.check("zeroed");
        twin.write(offset + length / 2, b"in the zeros").unwrap();
    });
}

fn zeros_past_the_end(mount: Mounted) {
    each_file(mount, &ranges(), |name, twin| {
        let (length, more) = parse(name);
        twin.write(0, &pattern(0, length as usize)).unwrap();
        zero_range(twin, FallocateFlags::ZERO_RANGE, length / 2, more);
    });
}

/// tmpfs has no ZERO_RANGE; there the daemon may write zeros or say so, and never half of it.
fn zero_range(twin: &mut Twin, flags: FallocateFlags, offset: u64, length: u64) {
    match twin.fallocate(flags, offset, length) {
        Ok(()) => {}
        Err(e) if crate::common::Backing::from_env() == crate::common::Backing::Tmpfs => {
            assert_eq!(e.raw_os_error(), Some(libc::EOPNOTSUPP));
        }
        Err(e) => panic!("ZERO_RANGE: {e}"),
    }
}

fn what_moves_bytes_is_refused(mount: Mounted) {
    let mut twin = Twin::empty(mount.join("file"));
    twin.write(0, &pattern(0, 64 << 10)).unwrap();
    let refused = |result: io::Result<()>| matches!(errno(result), libc::EOPNOTSUPP | libc::EINVAL);
    if !crate::common::vault::bare() {
        assert!(refused(twin.fallocate(FallocateFlags::COLLAPSE_RANGE, 4096, 4096)));
        assert!(refused(twin.fallocate(FallocateFlags::INSERT_RANGE, 4096, 4096)));
    }
    assert!(refused(twin.fallocate(FallocateFlags::PUNCH_HOLE, 4096, 4096)));
    assert!(refused(twin.fallocate(FallocateFlags::empty(), 0, 0)));
    twin.check("refused");
    let dir = fs::File::open(mount.path()).unwrap();
    assert!(rustix::fs::fallocate(&dir, FallocateFlags::empty(), 0, 100).is_err());
}

fn holes_and_zeros_mixed_with_writes(mount: Mounted) {
    use rand::RngExt;
    let names: Vec<String> = (0..6).map(|seed| seed.to_string()).collect();
    each_file(mount, &names, |name, twin| {
        let mut random = crate::common::rng(name.parse().unwrap());
        for round in 0..300u64 {
            let offset = random.random_range(0..120_000);
            let length = random.random_range(1..20_000);
            match random.random_range(0..6) {
                0 => twin.fallocate(PUNCH, offset, length).unwrap(),
                1 => zero_range(twin, ZERO_KEEP, offset, length),
                2 => zero_range(twin, FallocateFlags::ZERO_RANGE, offset, length),
                3 => twin.set_len(offset).unwrap(),
                4 => twin.fallocate(FallocateFlags::empty(), offset, length).unwrap(),
                _ => twin.write(offset, &pattern(round, length as usize)).unwrap(),
            }
            if round % 20 == 0 {
                twin.file.sync_data().unwrap();
            }
            if round % 10 == 0 {
                twin.check(&format!("round {round}"));
            }
        }
    });
}
