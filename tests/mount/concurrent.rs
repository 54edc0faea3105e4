//! Many threads in one file or one directory: no reader ever meets an error, or bytes that nobody
//! wrote there.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;

use crate::common::files::{open_rw, open_with, read_at};
use crate::common::{Campaign, Mounted, pattern, rng};

each_cache!(
    overlapping_writes_and_reads_through_the_cache,
    overlapping_writes_and_reads_past_the_cache,
    appends_of_many_threads_are_all_there,
    neighbours_in_one_block,
    reads_while_the_file_is_cut_and_grown,
    reads_while_holes_are_punched,
    many_threads_in_one_directory,
);

const WRITERS: u64 = 3;
const READERS: u64 = 3;
const LENGTH: u64 = 512 << 10;

fn duration() -> Duration {
    Duration::from_secs(Campaign::pick(3, 30))
}

/// Each word of the file names its own place and who wrote it: a word that is moved, torn, zero or
/// garbage can't be one.
fn word(offset: u64, writer: u64) -> [u8; 8] {
    (((offset / 8) << 8) | (writer + 1)).to_le_bytes()
}

fn words(offset: u64, length: u64, writer: u64) -> Vec<u8> {
    (offset..offset + length).step_by(8).flat_map(|at| word(at, writer)).collect()
}

fn check_words(offset: u64, bytes: &[u8]) {
    for (at, found) in (offset..).step_by(8).zip(bytes.chunks_exact(8)) {
        let value = u64::from_le_bytes(found.try_into().unwrap());
        let (place, writer) = (value >> 8, value & 0xff);
        assert!(
            place == at / 8 && (1..=WRITERS + 1).contains(&writer),
            "nobody wrote {value:#x} at {at}"
        );
    }
}

/// Writers fill random ranges, readers read random ranges, all in units of `grain`.
fn overlapping(mount: &Mounted, flags: i32, grain: u64) {
    let path = mount.join("file");
    open_rw(&path).write_all_at(&words(0, LENGTH, WRITERS), 0).unwrap();
    let end = Instant::now() + duration();
    let range = |random: &mut dyn FnMut(u64) -> u64| {
        let start = random(LENGTH / grain - 1);
        let length = 1 + random((LENGTH / grain - start).min(1 + 65_536 / grain));
        (start * grain, (length * grain).min(LENGTH - start * grain))
    };
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let path = &path;
            scope.spawn(move || {
                let file = open_with(path, flags);
                let mut random = rng(writer);
                let mut room = Vec::new();
                while Instant::now() < end {
                    let (offset, length) = range(&mut |below| random.random_range(0..below));
                    let bytes = aligned(&mut room, length as usize);
                    bytes.copy_from_slice(&words(offset, length, writer));
                    file.write_all_at(bytes, offset).unwrap();
                }
            });
        }
        for reader in 0..READERS {
            let path = &path;
            scope.spawn(move || {
                let file = open_with(path, flags);
                let mut random = rng(100 + reader);
                let mut room = Vec::new();
                while Instant::now() < end {
                    let (offset, length) = range(&mut |below| random.random_range(0..below));
                    let bytes = aligned(&mut room, length as usize);
                    file.read_exact_at(bytes, offset).unwrap();
                    check_words(offset, bytes);
                }
            });
        }
    });
    check_words(0, &fs::read(&path).unwrap());
}

fn aligned(room: &mut Vec<u8>, length: usize) -> &mut [u8] {
    room.resize(length + 4096, 0);
    let start = room.as_ptr().align_offset(4096);
    &mut room[start..start + length]
}

fn overlapping_writes_and_reads_through_the_cache(mount: Mounted) {
    overlapping(&mount, 0, 8);
    let mount = mount.remount(&[]);
    check_words(0, &fs::read(mount.join("file")).unwrap());
}

/// With O_DIRECT each request reaches the daemon, side by side with the others.
fn overlapping_writes_and_reads_past_the_cache(mount: Mounted) {
    overlapping(&mount, libc::O_DIRECT, 4096);
    let mount = mount.remount(&[]);
    check_words(0, &fs::read(mount.join("file")).unwrap());
}

fn appends_of_many_threads_are_all_there(mount: Mounted) {
    const EACH: u64 = 400;
    let path = mount.join("file");
    let line = |thread: u64, number: u64| {
        format!("{thread} {number} {}\n", "x".repeat((number % 90) as usize))
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            let path = &path;
            scope.spawn(move || {
                let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
                for number in 0..EACH {
                    file.write_all(line(thread, number).as_bytes()).unwrap();
                }
            });
        }
    });
    let mount = mount.remount(&[]);
    let text = fs::read_to_string(mount.join("file")).unwrap();
    let mut next = [0; 4];
    for found in text.split_inclusive('\n') {
        let thread: u64 = found.split(' ').next().unwrap().parse().unwrap();
        assert_eq!(found, line(thread, next[thread as usize]));
        next[thread as usize] += 1;
    }
    assert_eq!(next, [EACH; 4]);
}

/// Each thread owns every fourth run of 100 bytes: all blocks are shared, no byte is.
fn neighbours_in_one_block(mount: Mounted) {
    const RUN: u64 = 100;
    const RUNS: u64 = 1600;
    let path = mount.join("file");
    thread::scope(|scope| {
        for thread in 0..4u64 {
            let path = &path;
            scope.spawn(move || {
                let file = open_rw(path);
                let mut order: Vec<u64> = (thread..RUNS).step_by(4).collect();
                let mut random = rng(thread);
                for left in (1..order.len()).rev() {
                    order.swap(left, random.random_range(0..=left));
                }
                for (count, run) in order.into_iter().enumerate() {
                    file.write_all_at(&pattern(run * RUN, RUN as usize), run * RUN).unwrap();
                    if count % 50 == 0 {
                        file.sync_data().unwrap();
                    }
                }
            });
        }
    });
    assert!(fs::read(&path).unwrap() == pattern(0, (RUN * RUNS) as usize));
    let mount = mount.remount(&[]);
    assert!(fs::read(mount.join("file")).unwrap() == pattern(0, (RUN * RUNS) as usize));
}

/// A byte is what the pattern says or zero, whatever the length is at the moment.
fn check_pattern_or_zero(offset: u64, bytes: &[u8]) {
    let expected = pattern(offset, bytes.len());
    let wrong =
        bytes.iter().zip(&expected).position(|(found, right)| found != right && *found != 0);
    assert_eq!(wrong, None, "neither zero nor what was written, in a read at {offset}");
}

fn while_it_changes(mount: &Mounted, change: impl Fn(&fs::File, u64) + Sync) {
    let path = mount.join("file");
    open_rw(&path).write_all_at(&pattern(0, 200_000), 0).unwrap();
    let done = AtomicBool::new(false);
    let reads = AtomicU64::new(0);
    thread::scope(|scope| {
        for (reader, flags) in [(0, 0), (1, libc::O_DIRECT), (2, 0)] {
            let (path, done, reads) = (&path, &done, &reads);
            scope.spawn(move || {
                let file = open_with(path, flags);
                let mut random = rng(reader);
                let mut room = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    let offset = random.random_range(0..49u64) * 4096;
                    let bytes = aligned(&mut room, 4096 * random.random_range(1..9));
                    let length = file.read_at(bytes, offset).unwrap();
                    check_pattern_or_zero(offset, &bytes[..length]);
                    reads.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let file = open_rw(&path);
        let mut random = rng(9);
        let end = Instant::now() + duration();
        while Instant::now() < end {
            let at = random.random_range(0..200_000);
            change(&file, at);
            let from = random.random_range(0..200_000u64);
            let length = random.random_range(1..20_000usize).min(200_000 - from as usize);
            file.write_all_at(&pattern(from, length), from).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(reads.load(Ordering::Relaxed) > 100);
    check_pattern_or_zero(0, &fs::read(&path).unwrap());
}

fn reads_while_the_file_is_cut_and_grown(mount: Mounted) {
    while_it_changes(&mount, |file, length| {
        file.set_len(length).unwrap();
        file.set_len(200_000).unwrap();
    });
    let mount = mount.remount(&[]);
    check_pattern_or_zero(0, &fs::read(mount.join("file")).unwrap());
}

fn reads_while_holes_are_punched(mount: Mounted) {
    use rustix::fs::FallocateFlags;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    while_it_changes(&mount, |file, offset| {
        rustix::fs::fallocate(file, punch, offset, 10_000).unwrap()
    });
    let mount = mount.remount(&[]);
    check_pattern_or_zero(0, &fs::read(mount.join("file")).unwrap());
}

/// What a read may find of a file that others empty and write anew: the content, or zeros. The
/// kernel drops its pages some time after the daemon has emptied the file, and fills a page that it
/// reads in between with zeros up to the old length, whatever the FUSE filesystem.
fn check_start(bytes: &[u8]) {
    assert!(bytes.len() <= 5000);
    check_pattern_or_zero(0, bytes);
}

/// Threads make, move and remove entries of one directory, under names that they share.
fn many_threads_in_one_directory(mount: Mounted) {
    let dir = mount.join("dir");
    fs::create_dir(&dir).unwrap();
    let end = Instant::now() + duration();
    let raced = |result: std::io::Result<()>| match result {
        Err(e) if !matches!(e.kind(), ErrorKind::NotFound | ErrorKind::AlreadyExists) => {
            panic!("{e}")
        }
        _ => {}
    };
    thread::scope(|scope| {
        for thread in 0..4 {
            let dir = &dir;
            scope.spawn(move || {
                let mut random = rng(thread);
                while Instant::now() < end {
                    let (a, b) = (random.random_range(0..20u32), random.random_range(0..20u32));
                    let (a, b) = (dir.join(a.to_string()), dir.join(b.to_string()));
                    match random.random_range(0..6) {
                        0 | 1 => raced(fs::write(&a, pattern(0, 5000))),
                        2 => raced(fs::rename(&a, &b)),
                        3 => raced(fs::hard_link(&a, &b)),
                        4 => raced(fs::remove_file(&a)),
                        _ => raced(fs::read(&a).map(|bytes| check_start(&bytes))),
                    }
                }
            });
        }
    });
    let listed = |mount: &Mounted| {
        let mut all: Vec<_> = fs::read_dir(mount.join("dir"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        all.sort();
        all
    };
    let before = listed(&mount);
    let mount = mount.remount(&[]);
    assert_eq!(listed(&mount), before);
    for name in before {
        let file = open_rw(mount.join("dir").join(name));
        assert!(pattern(0, 5000) == read_at(&file, 0, 6000));
    }
}
