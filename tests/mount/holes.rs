//! Sparse files: SEEK_DATA and SEEK_HOLE never hide what was written.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;

use crate::common::files::{lstat, open_rw, read_at};
use crate::common::{Mapping, Mounted, pattern, require, run};

each_cache!(
    data_is_found_in_a_sparse_file,
    a_hole_is_reported,
    dirty_data_is_no_hole,
    a_store_through_a_mapping_is_no_hole,
    a_seek_drops_no_pages_of_data,
    the_end_is_a_hole,
    sparse_files_take_no_space,
    cp_and_tar_keep_sparse_files,
);

const MIB: u64 = 1 << 20;

/// The ranges that hold data, by SEEK_DATA and SEEK_HOLE in turns, as cp and tar ask for them.
fn data_ranges(file: &fs::File) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    loop {
        match seek(file, SeekFrom::Data(at)) {
            Ok(start) => {
                assert!(start >= at);
                let end = seek(file, SeekFrom::Hole(start)).unwrap();
                assert!(end > start, "an empty range of data at {start}");
                ranges.push((start, end));
                at = end;
            }
            Err(Errno::NXIO) => return ranges,
            Err(e) => panic!("SEEK_DATA from {at}: {e}"),
        }
    }
}

fn covers(ranges: &[(u64, u64)], start: u64, end: u64) -> bool {
    ranges.iter().any(|(from, to)| *from <= start && end <= *to)
}

fn data_is_found_in_a_sparse_file(mount: Mounted) {
    let pieces = [(0, 10), (100_000, 5000), (3 * MIB + 17, 4096), (7 * MIB, 1)];
    let file = open_rw(mount.join("file"));
    file.set_len(8 * MIB).unwrap();
    for (offset, length) in pieces {
        file.write_all_at(&pattern(offset, length), offset).unwrap();
    }
    for flushed in [false, true] {
        if flushed {
            file.sync_all().unwrap();
        }
        let ranges = data_ranges(&file);
        for (offset, length) in pieces {
            let end = offset + length as u64;
            assert!(
                covers(&ranges, offset, end),
                "{offset}..{end} is in no range (flushed: {flushed}): {ranges:?}"
            );
        }
    }
    drop(file);
    let mount = mount.remount(&[]);
    let file = open_rw(mount.join("file"));
    let ranges = data_ranges(&file);
    for (offset, length) in pieces {
        assert!(
            covers(&ranges, offset, offset + length as u64),
            "{offset} is in no range after a remount: {ranges:?}"
        );
    }
    assert_eq!(seek(&file, SeekFrom::Data(8 * MIB)), Err(Errno::NXIO));
    assert_eq!(seek(&file, SeekFrom::Hole(8 * MIB)), Err(Errno::NXIO));
}

fn a_hole_is_reported(mount: Mounted) {
    let file = open_rw(mount.join("file"));
    file.write_all_at(&pattern(0, 100_000), 0).unwrap();
    file.write_all_at(b"end", 8 * MIB).unwrap();
    file.sync_all().unwrap();
    let ranges = data_ranges(&file);
    let data: u64 = ranges.iter().map(|(start, end)| end - start).sum();
    assert!(
        data < MIB,
        "almost no hole is reported in a file of 8 MiB that holds 100 kB: {ranges:?}"
    );
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 20_000, 60_000)
        .unwrap();
    file.sync_all().unwrap();
    let ranges = data_ranges(&file);
    assert!(!covers(&ranges, 30_000, 70_000), "a punched hole is reported as data: {ranges:?}");
    assert!(covers(&ranges, 0, 20_000) && covers(&ranges, 80_000, 100_000), "{ranges:?}");
}

/// The kernel asks the daemon, which has not seen what lies dirty in the cache.
fn dirty_data_is_no_hole(mount: Mounted) {
    let path = mount.join("file");
    let asker = open_rw(&path);
    asker.set_len(4 * MIB).unwrap();
    asker.sync_all().unwrap();
    let writer = open_rw(&path);
    writer.write_all_at(b"dirty", 2 * MIB + 5).unwrap();
    let ranges = data_ranges(&asker);
    assert!(
        covers(&ranges, 2 * MIB + 5, 2 * MIB + 10),
        "dirty data in a hole is not seen: {ranges:?}"
    );
    writer.write_all_at(b"dirty", 6 * MIB).unwrap();
    let ranges = data_ranges(&asker);
    assert!(
        covers(&ranges, 6 * MIB, 6 * MIB + 5),
        "dirty data past the flushed end is not seen: {ranges:?}"
    );
    assert_eq!(seek(&asker, SeekFrom::Data(6 * MIB + 2)), Ok(6 * MIB + 2));
    assert_eq!(seek(&asker, SeekFrom::Hole(6 * MIB)), Ok(6 * MIB + 5));
}

fn a_store_through_a_mapping_is_no_hole(mount: Mounted) {
    let file = open_rw(mount.join("file"));
    file.set_len(4 * MIB).unwrap();
    let mut mapping = Mapping::shared(&file, 4 * MIB as usize).unwrap();
    for offset in [2 * MIB, 3 * MIB] {
        mapping.bytes_mut()[offset as usize] = 1;
        let ranges = data_ranges(&file);
        assert!(covers(&ranges, offset, offset + 1), "{offset} is in no range: {ranges:?}");
    }
    drop(mapping);
}

fn a_seek_drops_no_pages_of_data(mount: Mounted) {
    let file = open_rw(mount.join("file"));
    file.write_all_at(&pattern(0, MIB as usize), 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(read_at(&file, 0, MIB as usize), pattern(0, MIB as usize));
    let before = mount.operations("read");
    assert_eq!(data_ranges(&file), [(0, MIB)]);
    assert_eq!(read_at(&file, 0, MIB as usize), pattern(0, MIB as usize));
    assert_eq!(mount.operations("read"), before, "cached pages are read again");
}

fn the_end_is_a_hole(mount: Mounted) {
    for length in crate::boundaries().into_iter().filter(|length| *length > 0) {
        let path = mount.join(length.to_string());
        fs::write(&path, pattern(0, length as usize)).unwrap();
        let file = open_rw(&path);
        assert_eq!(seek(&file, SeekFrom::Hole(0)), Ok(length), "{length} bytes");
        assert_eq!(seek(&file, SeekFrom::Data(length - 1)), Ok(length - 1), "{length} bytes");
        assert_eq!(seek(&file, SeekFrom::Data(length)), Err(Errno::NXIO), "{length} bytes");
        assert_eq!(seek(&file, SeekFrom::End(0)), Ok(length));
    }
    let empty = open_rw(mount.join("empty"));
    assert_eq!(seek(&empty, SeekFrom::Data(0)), Err(Errno::NXIO));
    assert_eq!(seek(&empty, SeekFrom::Hole(0)), Err(Errno::NXIO));
}

fn sparse_files_take_no_space(mount: Mounted) {
    let path = mount.join("file");
    let file = open_rw(&path);
    file.set_len(1 << 40).unwrap();
    assert_eq!(lstat(&path).len(), 1 << 40);
    assert_eq!(read_at(&file, 1 << 39, 8192), vec![0; 8192]);
    file.write_all_at(b"middle", 1 << 39).unwrap();
    file.sync_all().unwrap();
    assert_eq!(read_at(&file, (1 << 39) - 4, 16), b"\0\0\0\0middle\0\0\0\0\0\0");
    assert!(lstat(&path).blocks() * 512 < MIB, "{} blocks", lstat(&path).blocks());
    drop(file);
    let mount = mount.remount(&[]);
    let file = open_rw(mount.join("file"));
    assert_eq!(file.metadata().unwrap().len(), 1 << 40);
    assert_eq!(read_at(&file, 1 << 39, 6), b"middle");
    assert_eq!(read_at(&file, (1 << 40) - 5, 10), vec![0; 5]);
}

fn cp_and_tar_keep_sparse_files(mount: Mounted) {
    let file = open_rw(mount.join("file"));
    file.set_len(10 * MIB).unwrap();
    for offset in [0, 3 * MIB, 9 * MIB + 1234] {
        file.write_all_at(&pattern(offset, 5000), offset).unwrap();
    }
    let expected = read_at(&file, 0, 10 * MIB as usize);
    // The source is still dirty: the copy must not take its pages for holes.
    run(Command::new(require("cp"))
        .arg("--sparse=auto")
        .arg(mount.join("file"))
        .arg(mount.join("copy")))
    .ok();
    run(Command::new(require("tar"))
        .arg("-C")
        .arg(mount.path())
        .args(["-cSf", "archive.tar", "file"])
        .current_dir(mount.path()))
    .ok();
    fs::create_dir(mount.join("out")).unwrap();
    run(Command::new(require("tar"))
        .arg("-C")
        .arg(mount.join("out"))
        .arg("-xf")
        .arg(mount.join("archive.tar")))
    .ok();
    drop(file);
    let mount = mount.remount(&[]);
    for name in ["copy", "out/file"] {
        assert!(fs::read(mount.join(name)).unwrap() == expected, "{name} differs");
    }
}
