//! Truncation both ways, from every boundary to every boundary.

use std::fs;
use std::fs::OpenOptions;

use crate::common::files::errno;
use crate::common::{Mounted, Twin, pattern};

each_cache!(
    from_every_length_to_every_other,
    cut_grow_and_write_again,
    what_was_cut_never_comes_back,
    a_cut_while_others_hold_the_file_open,
    truncate_refuses_what_ext4_refuses,
);

/// Of a file that was flushed before, and of one whose pages are still dirty.
fn from_every_length_to_every_other(mount: Mounted) {
    let mut kept = Vec::new();
    for from in crate::boundaries() {
        for to in crate::boundaries() {
            for flushed in [false, true] {
                let name = format!("{from}-{to}-{flushed}");
                let mut twin = Twin::empty(mount.join(&name));
                twin.write(0, &pattern(0, from as usize)).unwrap();
                if flushed {
                    twin.file.sync_data().unwrap();
                }
                twin.set_len(to).unwrap();
                twin.check("truncated");
                kept.push((name, twin.expected));
            }
        }
    }
    let mount = mount.remount(&[]);
    for (name, expected) in kept {
        assert!(fs::read(mount.join(&name)).unwrap() == expected, "{name} after a remount");
    }
}

fn cut_grow_and_write_again(mount: Mounted) {
    let mut kept = Vec::new();
    for cut in crate::boundaries() {
        let name = cut.to_string();
        let mut twin = Twin::empty(mount.join(&name));
        twin.write(0, &pattern(0, 40_000)).unwrap();
        for regrown in [cut + 1, cut + 4064, 40_000] {
            twin.set_len(cut).unwrap();
            twin.set_len(regrown).unwrap();
            twin.check("regrown");
            twin.write(regrown / 2, b"between").unwrap();
            twin.check("written between");
            twin.file.sync_all().unwrap();
        }
        twin.set_len(cut).unwrap();
        twin.write(cut, &pattern(9, 5000)).unwrap();
        twin.check("written at the cut");
        kept.push((name, twin.expected));
    }
    let mount = mount.remount(&[]);
    for (name, expected) in kept {
        assert!(fs::read(mount.join(&name)).unwrap() == expected, "{name} after a remount");
    }
}

/// Each step is made by a mount of its own, so that nothing is in a cache.
fn what_was_cut_never_comes_back(mut mount: Mounted) {
    for length in crate::boundaries() {
        fs::write(mount.join(length.to_string()), pattern(0, 40_000)).unwrap();
    }
    let set_all = |mount: &Mounted, to: &dyn Fn(u64) -> u64| {
        for length in crate::boundaries() {
            let file = OpenOptions::new().write(true).open(mount.join(length.to_string())).unwrap();
            file.set_len(to(length)).unwrap();
        }
    };
    mount = mount.remount(&[]);
    set_all(&mount, &|length| length);
    mount = mount.remount(&[]);
    set_all(&mount, &|_| 40_000);
    mount = mount.remount(&[]);
    for length in crate::boundaries() {
        let found = fs::read(mount.join(length.to_string())).unwrap();
        let mut expected = pattern(0, length.min(40_000) as usize);
        expected.resize(40_000, 0);
        assert!(found == expected, "cut to {length} and grown again");
    }
}

fn a_cut_while_others_hold_the_file_open(mount: Mounted) {
    let path = mount.join("file");
    let mut twin = Twin::empty(&path);
    twin.write(0, &pattern(0, 100_000)).unwrap();
    for length in [90_000u64, 3809, 3808, 3807, 60_000, 1, 0, 4096] {
        let other = OpenOptions::new().write(true).open(&path).unwrap();
        other.set_len(length).unwrap();
        twin.expected.resize(length as usize, 0);
        twin.check("cut by another descriptor");
        twin.write(length, &pattern(length, 700)).unwrap();
        twin.check("appended");
    }
}

fn truncate_refuses_what_ext4_refuses(mount: Mounted) {
    fs::write(mount.join("file"), b"x").unwrap();
    let file = OpenOptions::new().write(true).open(mount.join("file")).unwrap();
    assert!(matches!(errno(file.set_len(i64::MAX as u64)), libc::EFBIG | libc::EINVAL));
    assert_eq!(fs::read(mount.join("file")).unwrap(), b"x");
    let reader = fs::File::open(mount.join("file")).unwrap();
    assert!(matches!(errno(reader.set_len(0)), libc::EINVAL | libc::EBADF));
    assert_eq!(
        errno(rustix::fs::ftruncate(fs::File::open(mount.path()).unwrap(), 0).map_err(Into::into)),
        libc::EINVAL
    );
}
