//! Reads and writes by position: at every boundary, past the end, with holes between.

use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::os::unix::fs::FileExt;

use rand::RngExt;

use crate::common::files::{errno, open_rw, read_at};
use crate::common::{Mounted, Twin, pattern, random_bytes, rng};

each_cache!(
    whole_files_of_every_length,
    reads_past_the_end,
    a_read_at_every_boundary,
    an_overwrite_at_every_boundary,
    a_write_past_the_end_leaves_zeros,
    small_appends_make_one_file,
    vectored_writes,
    one_descriptor_sees_what_another_wrote,
    random_writes_of_any_size,
    large_sequential_files,
    a_damaged_file_does_not_flood_the_log,
);

fn whole_files_of_every_length(mount: Mounted) {
    for length in crate::boundaries() {
        let path = mount.join(length.to_string());
        fs::write(&path, pattern(length, length as usize)).unwrap();
        assert_eq!(fs::read(&path).unwrap(), pattern(length, length as usize));
    }
    let mount = mount.remount(&[]);
    for length in crate::boundaries() {
        let path = mount.join(length.to_string());
        assert_eq!(
            fs::read(&path).unwrap(),
            pattern(length, length as usize),
            "{length} bytes after a remount"
        );
    }
}

fn reads_past_the_end(mount: Mounted) {
    let path = mount.join("file");
    for length in crate::boundaries() {
        fs::write(&path, pattern(0, length as usize)).unwrap();
        let file = File::open(&path).unwrap();
        for past in [0, 1, 4095, 4096, 1 << 20, 1 << 40, i64::MAX as u64 - length - 4096] {
            assert_eq!(
                file.read_at(&mut [0; 64], length + past).unwrap(),
                0,
                "{past} past {length}"
            );
        }
        if length > 0 {
            assert_eq!(read_at(&file, length - 1, 5000), pattern(length - 1, 1));
        }
    }
}

fn a_read_at_every_boundary(mount: Mounted) {
    let total = 40_000u64;
    fs::write(mount.join("file"), pattern(0, total as usize)).unwrap();
    let mount = mount.remount(&[]);
    let file = File::open(mount.join("file")).unwrap();
    for offset in crate::boundaries().into_iter().filter(|offset| *offset < total) {
        for length in crate::boundaries() {
            let expected = pattern(offset, length.min(total - offset) as usize);
            assert_eq!(
                read_at(&file, offset, length as usize),
                expected,
                "{length} bytes at {offset}"
            );
        }
    }
}

fn an_overwrite_at_every_boundary(mount: Mounted) {
    let mut twin = Twin::empty(mount.join("file"));
    twin.write(0, &pattern(0, 30_000)).unwrap();
    for (round, offset) in crate::boundaries().into_iter().enumerate() {
        for length in [1, 2, 255, 3808, 4064, 4096, 8191] {
            twin.write(offset, &pattern(round as u64 * 7 + length, length as usize)).unwrap();
        }
        twin.check(&format!("after writes at {offset}"));
    }
    let expected = std::mem::take(&mut twin.expected);
    drop(twin);
    let mount = mount.remount(&[]);
    assert!(fs::read(mount.join("file")).unwrap() == expected);
}

fn a_write_past_the_end_leaves_zeros(mount: Mounted) {
    let mut kept = Vec::new();
    for length in crate::boundaries() {
        for past in [1, 255, 3808, 4064, 4096, 12_000] {
            let name = format!("{length}+{past}");
            let mut twin = Twin::empty(mount.join(&name));
            twin.write(0, &pattern(0, length as usize)).unwrap();
            twin.write(length + past, b"far").unwrap();
            twin.check("far write");
            kept.push((name, twin.expected));
        }
    }
    let mount = mount.remount(&[]);
    for (name, expected) in kept {
        assert!(fs::read(mount.join(&name)).unwrap() == expected, "{name} after a remount");
    }
}

fn small_appends_make_one_file(mount: Mounted) {
    let mut file = open_rw(mount.join("file"));
    let mut expected = Vec::new();
    for round in 0..2000u64 {
        let bytes = pattern(round, (round % 13) as usize + 1);
        file.write_all(&bytes).unwrap();
        expected.extend_from_slice(&bytes);
        if round % 500 == 0 {
            file.sync_data().unwrap();
        }
    }
    drop(file);
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("file")).unwrap(), expected);
}

fn vectored_writes(mount: Mounted) {
    let mut file = open_rw(mount.join("file"));
    let parts: Vec<Vec<u8>> =
        (0..64u64).map(|part| pattern(part, (part as usize * 131) % 700)).collect();
    let expected = parts.concat();
    let mut rest: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = rest.as_mut_slice();
    while !rest.is_empty() {
        let written = file.write_vectored(rest).unwrap();
        IoSlice::advance_slices(&mut rest, written);
    }
    let mut all = Vec::new();
    File::open(mount.join("file")).unwrap().read_to_end(&mut all).unwrap();
    assert_eq!(all, expected);
}

fn one_descriptor_sees_what_another_wrote(mount: Mounted) {
    let path = mount.join("file");
    let (writer, reader) = (open_rw(&path), open_rw(&path));
    for round in 0..100u64 {
        let offset = round * 997;
        writer.write_all_at(&pattern(round, 500), offset).unwrap();
        assert_eq!(read_at(&reader, offset, 500), pattern(round, 500), "round {round}");
        assert_eq!(reader.metadata().unwrap().len(), offset + 500);
    }
}

fn random_writes_of_any_size(mount: Mounted) {
    let mut random = rng(11);
    let mut twin = Twin::empty(mount.join("file"));
    for round in 0..400 {
        let offset = random.random_range(0..200_000);
        let length = random.random_range(1..9000);
        twin.write(offset, &random_bytes(round, length)).unwrap();
        if round % 50 == 0 {
            twin.file.sync_all().unwrap();
            twin.check("random writes");
        }
    }
    let expected = std::mem::take(&mut twin.expected);
    drop(twin);
    let mount = mount.remount(&[]);
    assert!(fs::read(mount.join("file")).unwrap() == expected);
}

fn large_sequential_files(mount: Mounted) {
    let length = 24 << 20;
    let bytes = random_bytes(5, length);
    let mut file = open_rw(mount.join("file"));
    for chunk in bytes.chunks(1 << 20) {
        file.write_all(chunk).unwrap();
    }
    drop(file);
    let mount = mount.remount(&[]);
    assert!(fs::read(mount.join("file")).unwrap() == bytes);
}

fn a_damaged_file_does_not_flood_the_log(mount: Mounted) {
    fs::write(mount.join("file"), pattern(0, 10_000)).unwrap();
    let mut mount = mount.remount(&[]);
    open_rw(mount.vault().path().join("file")).write_all_at(&[7; 100], 5000).unwrap();
    mount.expect_line("block 1 fails its authentication");
    for _ in 0..500 {
        assert_eq!(errno(fs::read(mount.join("file"))), libc::EIO);
    }
    let lines = mount.log().lines().filter(|line| line.contains("fails its")).count();
    // One, or two where a period ends.
    assert!((1..=2).contains(&lines), "{lines} lines");
}
