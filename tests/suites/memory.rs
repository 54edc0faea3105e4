//! The daemon's memory under many open files and many writers at once: bounded as the manual says.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::common::{Backing, Campaign, Mounted, Vault, pattern};

/// The page of the manual that states the bounds.
const MANUAL: &str = include_str!("../../src/manual/performance.md");

/// What the daemon may have in KiB, whoever works in the mount, and what more for each open file.
const BASE: u64 = 32 * 1024;
const OPEN_FILE: u64 = 6;

const FILES: u64 = 10_000;
const WRITERS: u64 = 64;

#[track_caller]
fn within(mount: &Mounted, what: &str, bound: u64, began: Instant) {
    let resident = mount.resident_kib();
    let took = began.elapsed().as_secs();
    Campaign::report(format!("{what}: {resident} KiB resident, {bound} allowed, {took} s"));
    assert!(resident <= bound, "{what}: {resident} KiB resident, {bound} allowed");
}

#[test]
fn ten_thousand_open_files() {
    let began = Instant::now();
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mount = Vault::init_on(Backing::Tmpfs).mount(&[]);
    let open = |number: u64| {
        let directory = mount.join(format!("{}", number % 100));
        fs::create_dir_all(&directory).unwrap();
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options
            .open(directory.join(format!("{number}")))
            .unwrap_or_else(|e| panic!("{number}: {e}"))
    };
    let files: Vec<File> = (0..FILES).map(open).collect();
    for (file, number) in files.iter().zip(0..) {
        file.write_all_at(&pattern(number, 5000), 0).unwrap();
    }
    // Written back, each has its key and the last block that is kept.
    rustix::fs::syncfs(&files[0]).unwrap();
    assert!(mount.operations("write") >= FILES);
    within(&mount, "10,000 open files", BASE + FILES * OPEN_FILE, began);
    for (file, number) in files.iter().zip(0..) {
        let mut content = vec![0; 5000];
        file.read_exact_at(&mut content, 0).unwrap();
        assert!(content == pattern(number, 5000), "file {number}");
    }
    drop(files);
    mount.unmount();
}

#[test]
fn sixty_four_writers_at_once() {
    let began = Instant::now();
    let mib: u64 = Campaign::pick(4, 64);
    let mount = Vault::init_on(Backing::Tmpfs).mount(&[]);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let path = mount.join(format!("{writer}"));
            scope.spawn(move || {
                let file = File::create_new(path).unwrap();
                let content = pattern(writer, 1 << 20);
                (0..mib).for_each(|n| file.write_all_at(&content, n << 20).unwrap());
                file.sync_all().unwrap();
            });
        }
    });
    within(&mount, "64 parallel writers", BASE + WRITERS * OPEN_FILE, began);
    for writer in 0..WRITERS {
        let content = fs::read(mount.join(format!("{writer}"))).unwrap();
        assert_eq!(content.len() as u64, mib << 20);
        let expected = pattern(writer, 1 << 20);
        assert!(content.chunks(1 << 20).all(|piece| piece == expected), "writer {writer}");
    }
    mount.unmount();
}

#[test]
fn the_manual_states_the_bounds() {
    let stated = [format!("{} MiB", BASE / 1024), format!("{OPEN_FILE} KiB for each open file")];
    stated.iter().for_each(|bound| assert!(MANUAL.contains(bound), "the manual lacks {bound:?}"));
}
