//! Writes that stop at any step, and commands that come at once.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::format::KeyVersion;
use crate::keys::key_file::file::edit_on;
use crate::keys::key_file::replace::{Disk, RealDisk};
use crate::keys::tests::*;

/// A disk whose call number `fail_at` fails, half done if it is a write; with `killed` no later
/// call happens either, as after kill -9.
struct FaultyDisk {
    calls: Cell<usize>,
    fail_at: usize,
    killed: bool,
}

impl FaultyDisk {
    fn call<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let call = self.calls.replace(self.calls.get() + 1);
        if call == self.fail_at || self.killed && call > self.fail_at {
            return Err(io::ErrorKind::StorageFull.into());
        }
        work()
    }
}

impl Disk for FaultyDisk {
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if self.calls.get() == self.fail_at {
            RealDisk.write_new(path, &bytes[..bytes.len() / 2])?;
        }
        self.call(|| RealDisk.write_new(path, bytes))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| RealDisk.rename(from, to))
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(|| RealDisk.rename_new(from, to))
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.call(|| RealDisk.remove(path))
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call(|| RealDisk.sync_dir(path))
    }
    fn open_for_wipe(&self, path: &Path) -> io::Result<Option<File>> {
        self.call(|| RealDisk.open_for_wipe(path))
    }
    fn wipe(&self, file: &File) -> io::Result<()> {
        self.call(|| RealDisk.wipe(file))
    }
}

type Change = fn(&mut OpenKeyFile) -> Result<(), KeyError>;

fn rotate(file: &mut OpenKeyFile) -> Result<(), KeyError> {
    file.ring.rotate(DEFAULT_KEY).map(drop)
}

fn retire(file: &mut OpenKeyFile) -> Result<(), KeyError> {
    file.ring.retire(DEFAULT_KEY, KeyVersion(1))
}

fn change_passphrase(file: &mut OpenKeyFile) -> Result<(), KeyError> {
    let id = file.protectors.list()[0].id;
    file.protectors.change(id, &cheap("new")).map(drop)
}

/// Runs `change` with a fault at every call in turn; `check` sees what each leaves.
fn with_faults(change: Change, check: impl Fn(&Scratch, bool, &str)) {
    for killed in [false, true] {
        for fail_at in 0.. {
            let scratch = Scratch::with(&[cheap("old")]);
            scratch.update(&secret_of("old"), |ring| ring.rotate(DEFAULT_KEY)).unwrap();
            let disk = FaultyDisk { calls: Cell::new(0), fail_at, killed };
            let vault = scratch.vault();
            let done = edit_on(&disk, &scratch.path(), &vault, &secret_of("old"), change);
            check(&scratch, done.is_ok(), &format!("call {fail_at}, killed {killed}"));
            if disk.calls.get() <= fail_at {
                assert!(fail_at >= 9, "every step was tried");
                break;
            }
        }
    }
}

/// The generation that is on disk, opened with whichever passphrase opens it.
fn generation(scratch: &Scratch) -> u64 {
    let opened = scratch.open(&secret_of("old")).or_else(|_| scratch.open(&secret_of("new")));
    opened.unwrap().generation()
}

#[test]
fn an_interrupted_write_leaves_the_old_state_or_the_new() {
    for change in [rotate as Change, retire, change_passphrase] {
        with_faults(change, |scratch, done, fault| {
            let found = generation(scratch);
            assert!(found == 2 || found == 3, "{fault}");
            assert!(!done || found == 3, "{fault}: what succeeded is there");
            // The next command finds nothing in its way and leaves nothing behind.
            let with_old = scratch.update(&secret_of("old"), |ring| ring.rotate(DEFAULT_KEY));
            with_old
                .or_else(|_| scratch.update(&secret_of("new"), |ring| ring.rotate(DEFAULT_KEY)))
                .unwrap();
            assert_eq!(generation(scratch), found + 1, "{fault}");
            let mut names: Vec<_> = fs::read_dir(scratch.directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(names, ["keys.json", "keys.json.lock", "keys.json.prev"], "{fault}");
        });
    }
}

#[test]
fn a_failed_write_leaves_nothing_beside_the_old_state() {
    let scratch = Scratch::with(&[]);
    let before = fs::read(scratch.path()).unwrap();
    let full = FaultyDisk { calls: Cell::new(0), fail_at: 4, killed: false };
    let failed = edit_on(&full, &scratch.path(), &scratch.vault(), &NoPassphrase, rotate);
    assert!(matches!(failed, Err(KeyError::KeyFile(KeyFileError::Io { .. }))));
    assert_eq!(fs::read(scratch.path()).unwrap(), before);
    assert!(!scratch.beside(".new").exists());
}

#[test]
fn no_copy_keeps_what_a_change_meant_to_remove() {
    for change in [retire as Change, change_passphrase] {
        with_faults(change, |scratch, _, fault| {
            if generation(scratch) == 2 {
                return;
            }
            // From the rename on there is no other copy, however it ended.
            for suffix in [".prev", ".prev.new", ".new"] {
                assert!(!scratch.beside(suffix).exists(), "{fault}: {suffix}");
            }
        });
    }
}

#[test]
fn the_previous_copy_is_the_state_before() {
    let scratch = Scratch::with(&[]);
    let before = fs::read(scratch.path()).unwrap();
    scratch.update(&NoPassphrase, |ring| ring.rotate(DEFAULT_KEY)).unwrap();
    assert_eq!(fs::read(scratch.beside(".prev")).unwrap(), before);
    let previous = KeyFile::open(&scratch.beside(".prev"), &scratch.vault(), &NoPassphrase);
    assert_eq!(previous.unwrap().ring.default_key().current(), KeyVersion(1));
}

#[test]
fn what_is_removed_is_overwritten() {
    let scratch = Scratch::with(&[]);
    scratch.update(&NoPassphrase, |ring| ring.rotate(DEFAULT_KEY)).unwrap();
    let held = [scratch.path(), scratch.beside(".prev")].map(|path| File::open(path).unwrap());
    scratch.update(&NoPassphrase, |ring| ring.retire(DEFAULT_KEY, KeyVersion(1))).unwrap();
    for file in held {
        let bytes = io::read_to_string(file).unwrap();
        assert!(!bytes.is_empty() && bytes.bytes().all(|byte| byte == 0));
    }
}

#[test]
fn a_hard_link_of_the_users_own_is_not_overwritten() {
    let scratch = Scratch::with(&[]);
    scratch.update(&NoPassphrase, |ring| ring.rotate(DEFAULT_KEY)).unwrap();
    fs::hard_link(scratch.path(), scratch.beside(".mine")).unwrap();
    scratch.update(&NoPassphrase, |ring| ring.retire(DEFAULT_KEY, KeyVersion(1))).unwrap();
    assert!(KeyFile::open(&scratch.beside(".mine"), &scratch.vault(), &NoPassphrase).is_ok());
}

#[test]
fn a_change_that_is_refused_writes_nothing() {
    let scratch = Scratch::with(&[]);
    let before = fs::read(scratch.path()).unwrap();
    let refused = scratch.update(&NoPassphrase, |ring| {
        ring.rotate(DEFAULT_KEY)?;
        ring.rotate("nobody")
    });
    assert!(matches!(refused, Err(KeyError::Ring(RingError::NoSuchKey(_)))));
    assert_eq!(fs::read(scratch.path()).unwrap(), before);
    assert!(!scratch.beside(".prev").exists());
}

#[test]
fn commands_at_once_queue_and_readers_see_whole_files() {
    const WRITERS: u32 = 4;
    const ROTATIONS: u32 = 25;
    let scratch = Scratch::with(&[]);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut last = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let generation = scratch.open(&NoPassphrase).unwrap().generation();
                assert!(generation >= last);
                last = generation;
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..ROTATIONS {
                        let rotate_and_retire = |ring: &mut KeyRing| {
                            let rotated = ring.rotate(DEFAULT_KEY)?;
                            ring.retire(DEFAULT_KEY, KeyVersion(rotated.0 - 1))
                        };
                        scratch.update(&NoPassphrase, rotate_and_retire).unwrap();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap();
    });
    let file = scratch.open(&NoPassphrase).unwrap();
    assert_eq!(file.ring.default_key().current(), KeyVersion(WRITERS * ROTATIONS + 1));
    assert_eq!(file.generation(), u64::from(WRITERS * ROTATIONS) + 1);
}

#[test]
fn of_two_that_create_one_file_one_succeeds() {
    for _ in 0..20 {
        let scratch = Scratch::new();
        let create = || KeyFile::create(&scratch.path(), &scratch.ring, &[]);
        let (one, other) = std::thread::scope(|scope| {
            let other = scope.spawn(create);
            (create(), other.join().unwrap())
        });
        assert!(one.is_ok() != other.is_ok());
        let refused = one.and(other).unwrap_err();
        assert!(matches!(refused, KeyError::KeyFile(KeyFileError::Exists(_))));
        assert!(scratch.open(&NoPassphrase).is_ok());
    }
}
