//! Rewrapping under the eyes of programs, and killed at any moment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use atrest::format::{HEADER_LEN, Header};
use atrest::fs::{Fs, Inode, OpenMode, Origin, Subject};
use atrest::keys::{KeyFile, NoPassphrase};
use atrest::store::Access;
use rand::RngExt;

use crate::common::files::open_rw;
use crate::common::{Allow, Campaign, Outcome, Vault, pattern, rng, wait_until};

/// Fills the vault with files of 1 KiB, a hundred to a directory, faster than a mount would.
fn fill(vault: &Vault, files: usize) {
    let id = atrest::store::Vault::describe(&vault.path()).unwrap().vault;
    let ring = KeyFile::open(&vault.key_file(), &id, &NoPassphrase).unwrap().ring;
    let opened = atrest::store::Vault::open(&vault.path(), ring, Access::ReadWrite).unwrap();
    let fs = Fs::new(opened).unwrap();
    let caller = Subject::process(0, 0, 1);
    let mut dir = Inode::ROOT;
    for file in 0..files {
        if file % 100 == 0 {
            let name = format!("dir {}", file / 100);
            dir = fs.mkdir(Inode::ROOT, OsStr::new(&name), 0o755, &caller).unwrap().attr.inode;
        }
        let name = format!("file {}", file % 100);
        let how = (OpenMode::READ_WRITE, true);
        let (made, _) = fs.create(dir, OsStr::new(&name), 0o644, how, &caller).unwrap();
        fs.write(made.attr.inode, 0, &content(file), Origin::Program).unwrap();
        fs.release(made.attr.inode).unwrap();
        fs.forget(made.attr.inode, 1);
    }
    fs.close().unwrap();
}

fn content(file: usize) -> Vec<u8> {
    pattern(file as u64, 1024)
}

fn name_of(file: usize) -> String {
    format!("dir {}/file {}", file / 100, file % 100)
}

/// The key versions that headers in the vault name, with how many do.
fn versions(vault: &Vault) -> BTreeMap<u32, usize> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![vault.path()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                if entry.file_name() != ".atrest" {
                    dirs.push(entry.path());
                }
                continue;
            }
            let mut header = [0; HEADER_LEN];
            // Moved by now, or still empty.
            let read = File::open(entry.path()).and_then(|mut file| file.read_exact(&mut header));
            if read.is_err() {
                continue;
            }
            *found.entry(Header::parse(&header).unwrap().version.0).or_default() += 1;
        }
    }
    found
}

/// `atrest key rewrap` of the vault or of its mount, which must do all there is to do.
#[track_caller]
fn rewrap(vault: &Vault) -> serde_json::Value {
    let done: Outcome = vault.run(&["key", "rewrap", "--json"]).ok();
    let done: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(done["failed"].as_array().map(Vec::len), Some(0), "{done}");
    done
}

#[test]
fn files_in_use_are_rewrapped_and_nobody_notices() {
    let vault = Vault::init();
    fill(&vault, 500);
    let mount = vault.mount(&[]);
    let read_only = mount.join("read only");
    fs::write(&read_only, b"read only").unwrap();
    fs::set_permissions(&read_only, Permissions::from_mode(0o444)).unwrap();
    fs::write(mount.join("linked"), b"linked").unwrap();
    fs::hard_link(mount.join("linked"), mount.join("dir 0/linked")).unwrap();
    fs::write(mount.join("gone"), b"unlinked and open").unwrap();
    let gone = File::open(mount.join("gone")).unwrap();
    fs::remove_file(mount.join("gone")).unwrap();
    fs::write(mount.join("written"), b"").unwrap();
    let mut written = open_rw(mount.join("written"));
    fs::write(mount.join("dir 0/mover"), b"moves").unwrap();
    let times = |name: &str| {
        let stat = fs::metadata(mount.join(name)).unwrap();
        (stat.mtime(), stat.mtime_nsec())
    };
    let before: Vec<_> = (0..500).map(|file| times(&name_of(file))).collect();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut turn = 0;
            while !stop.load(Ordering::Relaxed) {
                let name = |turn| mount.join(format!("dir {}/mover", turn % 5));
                fs::rename(name(turn), name(turn + 1)).unwrap();
                turn += 1;
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                written.write_all(&[7; 3000]).unwrap();
                written.sync_data().unwrap();
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for version in 2..=Campaign::pick(4, 20) {
                vault.run(&["key", "rotate"]).ok();
                let done = rewrap(&vault);
                // The vault's own key, and those above but `written`, which may have been empty.
                assert!(done["rewrapped"].as_u64() >= Some(505), "{done}");
                let found = versions(&vault);
                assert_eq!(found.keys().collect::<Vec<_>>(), [&version], "{found:?}");
            }
        }));
        stop.store(true, Ordering::Relaxed);
        done.unwrap_or_else(|failure| std::panic::resume_unwind(failure));
    });
    let after: Vec<_> = (0..500).map(|file| times(&name_of(file))).collect();
    assert!(before == after, "a modification time moved");
    let mut still = [0; 17];
    gone.read_exact_at(&mut still, 0).unwrap();
    assert_eq!(&still, b"unlinked and open");
    drop((gone, written));
    let mount = mount.remount(&[]);
    assert!((0..500).all(|file| fs::read(mount.join(name_of(file))).unwrap() == content(file)));
    assert_eq!(fs::read(&read_only).unwrap(), b"read only");
    assert_eq!(fs::metadata(&read_only).unwrap().mode() & 0o777, 0o444);
    assert_eq!(fs::read(mount.join("linked")).unwrap(), b"linked");
    mount.unmount();
    vault.verify();
}

/// The longest that one of many calls took.
fn longest(stop: &AtomicBool, mut call: impl FnMut()) -> (Duration, u32) {
    let (mut longest, mut calls) = (Duration::ZERO, 0);
    while !stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        call();
        longest = longest.max(began.elapsed());
        calls += 1;
    }
    (longest, calls)
}

#[test]
fn readers_and_writers_do_not_wait() {
    const FILES: usize = 20_000;
    let vault = Vault::init();
    fill(&vault, FILES);
    // Without the cache every read and write is the daemon's.
    let mount = vault.mount(&["--no-writeback"]);
    let path = mount.path().to_path_buf();
    fs::write(path.join("written"), b"content").unwrap();
    let (written, mut random) = (open_rw(path.join("written")), rng(1));
    let mut measure = |name: &str, work: &dyn Fn()| {
        let stop = AtomicBool::new(false);
        let mut file = || random.random_range(0..FILES);
        let (opens, writes) = thread::scope(|scope| {
            let read = || {
                let file = file();
                assert!(fs::read(path.join(name_of(file))).unwrap() == content(file));
            };
            let readers = scope.spawn(|| longest(&stop, read));
            let writers =
                scope.spawn(|| longest(&stop, || written.write_all_at(&[1; 5000], 2000).unwrap()));
            work();
            stop.store(true, Ordering::Relaxed);
            (readers.join().unwrap(), writers.join().unwrap())
        });
        println!(
            "{name}: longest open and read {:?} of {}, longest write {:?} of {}",
            opens.0, opens.1, writes.0, writes.1
        );
        (opens.0, writes.0)
    };
    measure("beside nothing", &|| thread::sleep(Duration::from_secs(2)));
    vault.run(&["key", "rotate"]).ok();
    let (read, write) = measure("beside a rewrap of 20,000 files", &|| {
        assert_eq!(rewrap(&vault)["rewrapped"], FILES as u64 + 2);
    });
    let limit = Duration::from_millis(250);
    assert!(read < limit && write < limit, "{read:?}, {write:?}");
}

/// The modification time of every file.
fn mtimes(root: &Path, files: usize) -> Vec<(i64, i64)> {
    let stats = (0..files).map(|file| fs::metadata(root.join(name_of(file))).unwrap());
    stats.map(|stat| (stat.mtime(), stat.mtime_nsec())).collect()
}

/// After a kill: what there is opens, and running it again finishes. Returns how many files were
/// left for that.
fn finish(vault: &Vault, files: usize, version: u32) -> u64 {
    let done = rewrap(vault);
    assert_eq!(versions(vault), BTreeMap::from([(version, files)]), "{done}");
    done["rewrapped"].as_u64().unwrap()
}

#[test]
fn killed_without_a_mount_it_harms_nothing_and_finishes_later() {
    let (files, kills) = Campaign::pick((2000, 5), (5000, 100));
    let vault = Vault::init();
    fill(&vault, files);
    let mut random = rng(2);
    vault.run(&["key", "rotate"]).ok();
    let began = Instant::now();
    rewrap(&vault);
    let whole = began.elapsed();
    let mut before = mtimes(&vault.path(), files);
    let (mut left, mut moved) = (Vec::new(), 0);
    for kill in 0..kills {
        vault.run(&["key", "rotate"]).ok();
        let mut command = vault.command(&["key", "rewrap"]);
        command.arg(vault.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        thread::sleep(whole.mul_f64(random.random_range(0.0..1.1)));
        child.kill().unwrap();
        child.wait().unwrap();
        vault.verify();
        left.push(finish(&vault, files, kill + 3));
        // A kill between the header write and the time being put back moves the time of as many
        // files as there are threads.
        let after = mtimes(&vault.path(), files);
        let different = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        assert!(different <= thread::available_parallelism().unwrap().get(), "{different} times");
        moved += different;
        before = after;
    }
    println!("{kills} kills within {whole:?}; left to do: {left:?}; {moved} times moved");
    vault.verify();
}

#[test]
fn killed_in_the_daemon_it_harms_nothing_and_finishes_later() {
    let (files, kills) = Campaign::pick((2000, 5), (5000, 100));
    let vault = Vault::init();
    fill(&vault, files);
    let mut mount = vault.mount(&[]);
    let mut random = rng(3);
    vault.run(&["key", "rotate"]).ok();
    let began = Instant::now();
    rewrap(&vault);
    let whole = began.elapsed();
    let mut left = Vec::new();
    for kill in 0..kills {
        vault.run(&["key", "rotate"]).ok();
        let mut command = vault.command(&["key", "rewrap"]);
        command.arg(mount.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        thread::sleep(whole.mul_f64(random.random_range(0.0..1.1)));
        mount.kill9();
        let ended = wait_until(Duration::from_secs(60), || child.try_wait().unwrap());
        assert!(ended.is_some(), "the command waits for a daemon that is dead");
        mount = mount.remount(&[]);
        mount.allow(Allow::Warnings);
        assert!(
            (0..files).all(|file| fs::read(mount.join(name_of(file))).unwrap() == content(file))
        );
        left.push(finish(&vault, files, kill + 3));
    }
    println!("{kills} kills within {whole:?}; left to do: {left:?}");
    mount.unmount();
    vault.verify();
}
