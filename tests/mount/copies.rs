//! copy_file_range(2), sendfile(2) and what uses them.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::copy_file_range;
use rustix::io::Errno;

use crate::common::files::{assert_same, open_rw, read_at};
use crate::common::{Mapping, Mounted, Twin, pattern, random_bytes};

each_cache!(
    copies_between_files_at_every_boundary,
    copies_within_a_file,
    a_copy_sees_dirty_bytes,
    a_copy_ends_at_the_end,
    a_copy_ends_where_its_source_is_cut_meanwhile,
    overlapping_ranges_are_refused,
    stores_beside_a_copy_stay_and_bring_nothing_back,
    a_copy_to_and_from_outside,
);

/// As much as one call copies at most.
const LARGE: usize = 16 << 20;

/// As often as it takes; returns how much was copied.
fn copy(from: &fs::File, mut at: u64, to: &fs::File, mut target: u64, length: u64) -> u64 {
    let mut done = 0;
    while done < length {
        match copy_file_range(from, Some(&mut at), to, Some(&mut target), (length - done) as usize)
            .unwrap()
        {
            0 => break,
            copied => done += copied as u64,
        }
    }
    done
}

fn copies_between_files_at_every_boundary(mount: Mounted) {
    let source = open_rw(mount.join("source"));
    source.write_all_at(&pattern(0, 50_000), 0).unwrap();
    let mut target = Twin::empty(mount.join("target"));
    target.write(0, &random_bytes(1, 60_000)).unwrap();
    let offsets: Vec<u64> =
        crate::boundaries().into_iter().filter(|offset| *offset < 20_000).collect();
    for from in &offsets {
        for to in offsets.iter().rev().step_by(3) {
            for length in [1, 4064, 4096, 9000] {
                assert_eq!(copy(&source, *from, &target.file, *to, length), length);
                let bytes = pattern(*from, length as usize);
                target.expected[*to as usize..(*to + length) as usize].copy_from_slice(&bytes);
            }
            target.check(&format!("copied from {from} to {to}"));
        }
    }
    let expected = std::mem::take(&mut target.expected);
    drop((source, target));
    let mount = mount.remount(&[]);
    assert_same(&fs::read(mount.join("target")).unwrap(), &expected, "after a remount");
}

fn copies_within_a_file(mount: Mounted) {
    let mut twin = Twin::empty(mount.join("file"));
    twin.write(0, &pattern(0, 30_000)).unwrap();
    for (from, to, length) in
        [(0, 30_000, 30_000), (5, 20_000, 10_000), (40_000, 0, 3809), (100, 90_000, 5000)]
    {
        twin.copy_within(from, to, length).unwrap();
        twin.check(&format!("{length} from {from} to {to}"));
    }
}

fn a_copy_sees_dirty_bytes(mount: Mounted) {
    let source = open_rw(mount.join("source"));
    source.write_all_at(&pattern(0, 20_000), 0).unwrap();
    source.sync_all().unwrap();
    source.write_all_at(b"dirty", 9000).unwrap();
    source.write_all_at(b"dirty end", 20_000).unwrap();
    let mut target = Twin::empty(mount.join("target"));
    target.write(0, &pattern(5, 8000)).unwrap();
    assert_eq!(copy(&source, 0, &target.file, 4000, 30_000), 20_009);
    target.expected.truncate(4000);
    target.expected.extend(read_at(&source, 0, 30_000));
    target.check("copied");
    assert_eq!(&target.expected[13_000..13_005], b"dirty");
}

fn a_copy_ends_at_the_end(mount: Mounted) {
    let source = open_rw(mount.join("source"));
    source.write_all_at(&pattern(0, 5000), 0).unwrap();
    let target = open_rw(mount.join("target"));
    assert_eq!(copy(&source, 4000, &target, 0, 1 << 20), 1000);
    assert_eq!(copy(&source, 5000, &target, 0, 10), 0);
    assert_eq!(copy(&source, 1 << 30, &target, 0, 10), 0);
    assert_eq!(target.metadata().unwrap().len(), 1000);
    // Past the target's end: zeros between.
    assert_eq!(copy(&source, 0, &target, 9000, 100), 100);
    let mut expected = pattern(4000, 1000);
    expected.resize(9000, 0);
    expected.extend(pattern(0, 100));
    assert_eq!(read_at(&target, 0, 10_000), expected);
}

fn a_copy_ends_where_its_source_is_cut_meanwhile(mount: Mounted) {
    for _ in 0..20 {
        let source = open_rw(mount.join("source"));
        source.set_len(LARGE as u64).unwrap();
        let (to, source_path) = (open_rw(mount.join("target")), mount.join("source"));
        // The kernel writes these back first, and has seen the source's length by then.
        to.write_all_at(&pattern(0, LARGE), 0).unwrap();
        let (done, ended) = channel();
        thread::spawn(move || {
            let from = open_rw(source_path);
            done.send(copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), LARGE))
        });
        thread::sleep(Duration::from_millis(10));
        source.set_len(0).unwrap();
        let copied = ended.recv_timeout(Duration::from_secs(20)).expect("the copy never ends");
        assert!(copied.unwrap() <= LARGE);
    }
}

fn overlapping_ranges_are_refused(mount: Mounted) {
    let file = open_rw(mount.join("file"));
    file.write_all_at(&pattern(0, 20_000), 0).unwrap();
    let refused = copy_file_range(&file, Some(&mut 0), &file, Some(&mut 5000), 10_000);
    assert_eq!(refused, Err(Errno::INVAL));
    assert_eq!(read_at(&file, 0, 30_000), pattern(0, 20_000));
}

/// One copies to a part of a page and to all of the next, and another stores to both.
fn stores_beside_a_copy_stay_and_bring_nothing_back(mount: Mounted) {
    const BYTES: usize = 2048 + 4096;
    let path = mount.join("file");
    fs::write(&path, [0; 8192]).unwrap();
    let (stored, source) = (open_rw(&path), open_rw(mount.join("source")));
    let mut mapping = Mapping::shared(&stored, 8192).unwrap();
    let copied = open_rw(&path);
    let until = Instant::now() + Duration::from_secs(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in (0..=255).cycle().take_while(|_| Instant::now() < until) {
                source.write_all_at(&[round; BYTES], 0).unwrap();
                assert_eq!(copy(&source, 0, &copied, 2048, BYTES as u64), BYTES as u64);
                // But for the 8 bytes that the other stores to.
                let found = read_at(&copied, 2048, BYTES);
                let wrong = found
                    .iter()
                    .enumerate()
                    .position(|(at, byte)| !(2048..2056).contains(&at) && *byte != round);
                assert_eq!(wrong, None, "a byte of the copy, round {round}");
            }
        });
        for number in (1_u64..).take_while(|_| Instant::now() < until) {
            for at in [0, 4096] {
                mapping.bytes_mut()[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            mapping.sync().unwrap();
            assert_eq!(mapping.bytes()[..8], number.to_le_bytes(), "a store is gone");
        }
    });
}

fn a_copy_to_and_from_outside(mount: Mounted) {
    let outside = mount.vault().scratch().join("outside");
    fs::write(&outside, random_bytes(2, 100_000)).unwrap();
    fs::copy(&outside, mount.join("in")).unwrap();
    fs::copy(mount.join("in"), mount.join("again")).unwrap();
    fs::copy(mount.join("again"), &outside).unwrap();
    assert!(fs::read(&outside).unwrap() == random_bytes(2, 100_000));
    // io::copy between files is sendfile or splice where copy_file_range is refused.
    let (mut from, mut to) = (open_rw(mount.join("in")), open_rw(mount.join("spliced")));
    from.seek(SeekFrom::Start(777)).unwrap();
    to.write_all(b"head").unwrap();
    std::io::copy(&mut from, &mut to).unwrap();
    let mut expected = b"head".to_vec();
    expected.extend_from_slice(&random_bytes(2, 100_000)[777..]);
    assert!(fs::read(mount.join("spliced")).unwrap() == expected);
}
