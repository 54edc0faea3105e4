//! What it costs: one header write a file, whatever the file's size.

use std::time::{Duration, Instant};

use atrest::fs::{Change, Inode, Rewrap};

use super::ground::{CALLER, Ground};
use crate::common_store::Campaign;

#[test]
fn content_and_times_of_many_files_are_bit_for_bit_the_same() {
    let (dirs, flat) = Campaign::pick((10, 1000), (500, 50_000));
    let ground = Ground::new();
    let content = [0x5a; 1024];
    for dir in 0..dirs {
        let inode = ground.mkdir(&format!("dir {dir}"));
        for file in 0..100 {
            ground.write(inode, &format!("file {file}"), &content);
        }
    }
    for file in 0..flat {
        ground.write(Inode::ROOT, &format!("file {file}"), &content);
    }
    // Nothing is known of the files then, as for a command that comes later.
    let ground = ground.again();
    let files = dirs * 100 + flat;
    let before = ground.kept();
    assert_eq!(before.len() as u64, files);
    ground.rotate();
    assert_eq!(ground.references(1), files + 1);
    let began = Instant::now();
    let summary = ground.rewrap(&Rewrap::default());
    let took = began.elapsed();
    println!("{files} files of 1 KiB rewrapped in {took:?}: {:.0}/s", rate(files, took));
    assert_eq!((summary.rewrapped, summary.failed.len()), (files + 1, 0));
    assert!(before == ground.kept(), "content or time was touched");
    let began = Instant::now();
    assert_eq!(ground.references(1), 0);
    println!("{files} files found to be at the new version in {:?}", began.elapsed());
    ground.verify();
    // Unoptimised, the cipher alone takes its time.
    if files == 100_000 && cfg!(not(debug_assertions)) {
        assert!(took < Duration::from_secs(3), "{took:?}");
    }
}

#[test]
fn a_file_costs_the_same_whatever_its_size() {
    let dense = Campaign::pick(0, 4);
    let ground = Ground::new();
    for file in 0..500 {
        ground.write(Inode::ROOT, &format!("small {file}"), &[1; 1024]);
    }
    let small = timed(&ground);
    for file in 0..500 {
        let inode = ground.write(Inode::ROOT, &format!("large {file}"), &[1; 1024]);
        let change = Change { size: Some(1 << 30), ..Change::default() };
        ground.fs.setattr(inode, &change, &CALLER).unwrap();
    }
    for file in 0..dense {
        let inode = ground.create(Inode::ROOT, &format!("dense {file}"), &[]);
        let chunk = vec![7; 1 << 20];
        for at in 0..1024 {
            ground.fs.write(inode, at << 20, &chunk, atrest::fs::Origin::Program).unwrap();
        }
        ground.fs.release(inode).unwrap();
    }
    let both = timed(&ground);
    println!("500 files of 1 KiB: {small:?}; with 500 of 1 GiB beside them: {both:?}");
    assert!(both < small * 6 + Duration::from_millis(100), "{small:?}, {both:?}");
}

fn timed(ground: &Ground) -> Duration {
    ground.rotate();
    let began = Instant::now();
    let summary = ground.rewrap(&Rewrap::default());
    assert!(summary.failed.is_empty(), "{summary:?}");
    began.elapsed()
}

fn rate(files: u64, took: Duration) -> f64 {
    files as f64 / took.as_secs_f64()
}
