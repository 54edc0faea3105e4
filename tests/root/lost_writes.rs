//! What a program wrote into the kernel's cache and the disk has no room for: the program learns of
//! it soon, by write(2) too, and afterwards kernel and vault agree.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::files::errno;
use crate::common::{pattern, random_bytes, wait_until};
use crate::small_disk::SmallDisk;

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(30);

/// Writes without ever syncing until it is told; how many bytes were taken.
fn write_on(file: &File, chunk: &[u8], most: u64) -> (u64, Option<i32>) {
    let mut file = file;
    let mut taken = 0;
    while taken < most {
        match file.write(chunk) {
            Ok(bytes) => taken += bytes as u64,
            Err(error) => return (taken, error.raw_os_error()),
        }
    }
    (taken, None)
}

#[test]
fn a_writer_that_never_syncs_learns_of_a_full_disk_and_the_file_is_what_was_written() {
    SmallDisk::each(|disk| {
        let mut mount = disk.vault.mount(&[]);
        mount.expect_line("can't be written: the backing filesystem says: No space left");
        let path = mount.join("endless");
        let file = File::create(&path).unwrap();
        let chunk = random_bytes(3, MIB as usize);
        let (taken, told) = write_on(&file, &chunk, 2048 * MIB);
        assert_eq!(told, Some(libc::ENOSPC), "after {} MiB", taken / MIB);
        let room = disk.size();
        assert!(taken < room + 64 * MIB, "told after {} MiB of {}", taken / MIB, room / MIB);
        // The kernel is told of the length by and by.
        let settled = wait_until(LIMIT, || {
            let len = fs::metadata(&path).unwrap().len();
            (len < taken).then_some(len)
        });
        let len = settled.expect("the file is cut to what was written");
        // The failure was told; there is nothing more that this descriptor has to learn but by the
        // kernel's own account of failed write-backs.
        let _ = file.sync_all();
        file.sync_all().expect("told once");
        let mut expected = Vec::new();
        while (expected.len() as u64) < len {
            expected.extend_from_slice(&chunk);
        }
        expected.truncate(len as usize);
        let found = fs::read(&path).unwrap();
        let alien = found.iter().zip(&expected).position(|(is, was)| is != was);
        assert_eq!((found.len(), alien), (expected.len(), None), "not what was written");
        drop(file);
        let lines = mount.log().lines().filter(|line| line.contains("endless")).count();
        assert!((1..=3).contains(&lines), "{lines} lines for one file");

        let mount = mount.remount(&[]);
        assert_eq!(fs::metadata(mount.join("endless")).unwrap().len(), len);
        assert!(fs::read(mount.join("endless")).unwrap() == found, "another mount differs");
        mount.unmount();
        disk.vault.verify();
    });
}

#[test]
fn each_descriptor_that_writes_is_told_once_and_who_overwrites_goes_on() {
    SmallDisk::each(|disk| {
        let mut mount = disk.vault.mount(&[]);
        mount.expect_line("can't be written: the backing filesystem says: No space left");
        let path = mount.join("shared");
        let first = File::create(&path).unwrap();
        first.write_all_at(&pattern(0, 300_000), 0).unwrap();
        first.sync_all().unwrap();
        let second = OpenOptions::new().write(true).open(&path).unwrap();
        let reader = File::open(&path).unwrap();
        let chunk = random_bytes(4, MIB as usize);
        let mut appender = OpenOptions::new().append(true).open(&path).unwrap();
        let mut taken = 0;
        let told = loop {
            match appender.write(&chunk) {
                Ok(bytes) => taken += bytes as u64,
                Err(error) => break error.raw_os_error(),
            }
            assert!(taken < 2048 * MIB, "never told");
        };
        assert_eq!(told, Some(libc::ENOSPC));
        wait_until(LIMIT, || (fs::metadata(&path).unwrap().len() < 300_000 + taken).then_some(()))
            .expect("the file is cut to what was written");
        // The appender knows. Others that write learn of it with their next write, once.
        let over = |file: &File| file.write_all_at(&[7; 4096], 4096);
        for file in [&first, &second] {
            let told = wait_until(LIMIT, || over(file).err().map(|error| error.raw_os_error()));
            assert_eq!(told, Some(Some(libc::ENOSPC)));
            // Again only until the file was cut for what else that descriptor may have written.
            wait_until(LIMIT, || over(file).ok()).expect("told for ever");
        }
        assert_eq!(reader.metadata().unwrap().ino(), first.metadata().unwrap().ino());
        let mut buffer = [0; 4096];
        reader.read_exact_at(&mut buffer, 4096).expect("a reader is not concerned");
        // What has its space is written all the same.
        let _ = first.sync_all();
        over(&first).unwrap();
        first.sync_all().unwrap();
        assert_eq!(errno(second.sync_all()), libc::ENOSPC, "the kernel's account for each");
        second.sync_all().unwrap();
    });
}

#[test]
fn many_that_stat_a_file_do_not_hold_up_what_they_wait_for() {
    SmallDisk::each(|disk| {
        let mut mount = disk.vault.mount(&[]);
        mount.expect_line("can't be written: the backing filesystem says: No space left");
        let path = mount.join("file");
        let file = File::create(&path).unwrap();
        let stop = AtomicBool::new(false);
        let slowest = thread::scope(|scope| {
            // More than the daemon answers at once.
            let stats: Vec<_> = (0..100)
                .map(|_| {
                    scope.spawn(|| {
                        let mut slowest = Duration::ZERO;
                        while !stop.load(Ordering::Relaxed) {
                            let begun = Instant::now();
                            fs::metadata(&path).unwrap();
                            slowest = slowest.max(begun.elapsed());
                            thread::sleep(Duration::from_millis(2));
                        }
                        slowest
                    })
                })
                .collect();
            let chunk = random_bytes(3, MIB as usize);
            let (taken, told) = write_on(&file, &chunk, 2048 * MIB);
            let len = || Some(fs::metadata(&path).ok()?.len()).filter(|&len| len < taken);
            let settled = wait_until(LIMIT, len);
            stop.store(true, Ordering::Relaxed);
            assert_eq!((told, settled.is_some()), (Some(libc::ENOSPC), true));
            stats.into_iter().map(|stat| stat.join().unwrap()).max().unwrap()
        });
        eprintln!("the slowest stat took {slowest:?}");
        assert!(slowest < Duration::from_secs(4), "a stat took {slowest:?}");
        drop(file);
        mount.unmount();
    });
}
