//! kill -9 of the daemon at random moments under load: what fsync(), close() or rename() returned
//! for is there after the next mount, and without the writeback cache what write() returned for.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use crate::common::files::close;
use crate::common::promises::{Change, Promise};
use crate::common::{Allow, Campaign, Mounted, Vault, random_bytes, rng};

const WORKERS: u64 = 3;
const SLOTS: usize = 6;

/// One thread's directory: files that it changes, names that it makes and removes.
struct Worker {
    dir: PathBuf,
    slots: Vec<Slot>,
    names: BTreeMap<String, Presence>,
    /// Whether a write() that returned is a promise already.
    write_through: bool,
    random: Xoshiro256PlusPlus,
    made: u64,
    steps: u64,
}

struct Slot {
    name: String,
    promise: Promise,
    file: Option<File>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Presence {
    There,
    Gone,
    /// The call was under way.
    Either,
}

impl Worker {
    fn new(mount: &Mounted, number: u64, write_through: bool) -> Worker {
        let dir = mount.join(format!("worker-{number}"));
        fs::create_dir(&dir).unwrap();
        let slot = |slot| {
            let content = random_bytes(number * 100 + slot as u64, 20_000);
            let name = format!("slot-{slot}");
            fs::write(dir.join(&name), &content).unwrap();
            Slot { name, promise: Promise::of(content), file: None }
        };
        let slots = (0..SLOTS).map(slot).collect();
        Worker {
            dir,
            slots,
            names: BTreeMap::new(),
            write_through,
            random: rng(number),
            made: 0,
            steps: 0,
        }
    }

    /// Works until a call fails, which is when the daemon is gone.
    fn work(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) && self.step().is_ok() {
            self.steps += 1;
        }
    }

    fn step(&mut self) -> io::Result<()> {
        let slot = self.random.random_range(0..SLOTS);
        match self.random.random_range(0..10) {
            0..3 => self.overwrite(slot),
            3 | 4 => self.append(slot),
            5 => self.truncate(slot),
            6 => self.rewrite_and_close(slot),
            7 => self.replace_by_rename(slot),
            8 => self.make_name(slot),
            _ => self.remove_name(),
        }
    }

    fn some_bytes(&mut self, most: usize) -> Vec<u8> {
        let length = self.random.random_range(1..most);
        random_bytes(self.random.random_range(0..u64::MAX), length)
    }

    fn open(&mut self, slot: usize) -> io::Result<File> {
        let slot = &mut self.slots[slot];
        if slot.file.is_none() {
            slot.file =
                Some(OpenOptions::new().read(true).write(true).open(self.dir.join(&slot.name))?);
        }
        slot.file.as_ref().unwrap().try_clone()
    }

    fn write_at(&mut self, slot: usize, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        let file = self.open(slot)?;
        self.slots[slot].promise.begin(Change::Write(offset, bytes.clone()));
        file.write_all_at(&bytes, offset)?;
        if self.write_through {
            self.slots[slot].promise.keep();
        }
        if self.random.random_range(0..2) == 0 {
            file.sync_data()?;
            self.slots[slot].promise.keep();
        }
        Ok(())
    }

    fn overwrite(&mut self, slot: usize) -> io::Result<()> {
        let offset = self.random.random_range(0..40_000);
        let bytes = self.some_bytes(9000);
        self.write_at(slot, offset, bytes)
    }

    fn append(&mut self, slot: usize) -> io::Result<()> {
        let end = self.slots[slot].promise.now().len() as u64;
        let bytes = self.some_bytes(5000);
        if end < 200_000 { self.write_at(slot, end, bytes) } else { self.truncate(slot) }
    }

    fn truncate(&mut self, slot: usize) -> io::Result<()> {
        let length = self.random.random_range(0..50_000);
        let file = self.open(slot)?;
        self.slots[slot].promise.begin(Change::Truncate(length));
        file.set_len(length)?;
        file.sync_all()?;
        self.slots[slot].promise.keep();
        Ok(())
    }

    fn rewrite_and_close(&mut self, slot: usize) -> io::Result<()> {
        let bytes = self.some_bytes(30_000);
        self.slots[slot].promise.begin(Change::Truncate(0));
        self.slots[slot].promise.begin(Change::Write(0, bytes.clone()));
        let mut file = File::create(self.dir.join(&self.slots[slot].name))?;
        file.write_all(&bytes)?;
        self.close_in_time(file)?;
        self.slots[slot].promise.keep();
        Ok(())
    }

    fn replace_by_rename(&mut self, slot: usize) -> io::Result<()> {
        let bytes = self.some_bytes(30_000);
        let new = self.dir.join("new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        self.close_in_time(file)?;
        self.slots[slot].promise.begin(Change::Replace(bytes));
        fs::rename(&new, self.dir.join(&self.slots[slot].name))?;
        self.slots[slot].promise.keep();
        self.slots[slot].file = None;
        Ok(())
    }

    /// Closes a file while the daemon lives, or fails. After its death the kernel drops what was
    /// written and close(2) succeeds all the same: only statfs(2) always asks the daemon.
    fn close_in_time(&self, file: File) -> io::Result<()> {
        close(file)?;
        rustix::fs::statfs(&self.dir)?;
        Ok(())
    }

    fn make_name(&mut self, slot: usize) -> io::Result<()> {
        self.made += 1;
        let kind = self.random.random_range(0..3);
        let name = format!("{}-{}", ["dir", "link", "soft"][kind], self.made);
        let path = self.dir.join(&name);
        self.names.insert(name.clone(), Presence::Either);
        match kind {
            0 => fs::create_dir(path)?,
            1 => fs::hard_link(self.dir.join(&self.slots[slot].name), path)?,
            _ => std::os::unix::fs::symlink("x", path)?,
        }
        self.names.insert(name, Presence::There);
        Ok(())
    }

    fn remove_name(&mut self) -> io::Result<()> {
        let there = self.names.iter().find(|(_, presence)| **presence == Presence::There);
        let Some((name, _)) = there.map(|(name, presence)| (name.clone(), *presence)) else {
            return Ok(());
        };
        self.names.insert(name.clone(), Presence::Either);
        let path = self.dir.join(&name);
        if name.starts_with("dir") {
            fs::remove_dir(path)?
        } else {
            fs::remove_file(path)?
        }
        self.names.insert(name, Presence::Gone);
        Ok(())
    }

    /// Compares with what a new mount shows, and goes on from there.
    fn check(&mut self, context: &str) {
        for slot in &mut self.slots {
            let path = self.dir.join(&slot.name);
            let found =
                fs::read(&path).unwrap_or_else(|e| panic!("{context}: {}: {e}", path.display()));
            slot.promise
                .check(&found)
                .unwrap_or_else(|loss| panic!("{context}: {}: {loss}", path.display()));
            slot.promise = Promise::of(found);
            slot.file = None;
        }
        for (name, presence) in &self.names {
            let there = fs::symlink_metadata(self.dir.join(name)).is_ok();
            let kept = *presence == Presence::Either || (*presence == Presence::There) == there;
            assert!(kept, "{context}: {name} should be {presence:?}");
        }
        self.names.retain(|name, _| fs::symlink_metadata(self.dir.join(name)).is_ok());
        self.names.values_mut().for_each(|presence| *presence = Presence::There);
    }
}

fn kill_again_and_again(options: &[&str], seed: u64, rounds: u32) {
    let began = Instant::now();
    let vault = Vault::init();
    let mut mount = vault.mount(options);
    let write_through = options.contains(&"--no-writeback");
    let mut workers: Vec<Worker> =
        (0..WORKERS).map(|number| Worker::new(&mount, number + seed, write_through)).collect();
    let mut random = rng(seed);
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let killed = thread::scope(|scope| {
            for worker in &mut workers {
                scope.spawn(|| worker.work(&stop));
            }
            thread::sleep(Duration::from_millis(random.random_range(10..400)));
            let killed = panic::catch_unwind(AssertUnwindSafe(|| mount.kill9()));
            stop.store(true, Ordering::Relaxed);
            killed
        });
        killed.unwrap_or_else(|failure| panic::resume_unwind(failure));
        // Every other time programs hold on to descriptors of the dead mount.
        if round % 2 == 0 {
            workers
                .iter_mut()
                .flat_map(|worker| &mut worker.slots)
                .for_each(|slot| slot.file = None);
        }
        // The stale mount point is recovered by mount, or by umount.
        if round % 3 == 0 {
            mount.try_unmount().ok();
        }
        mount = mount.remount(options);
        mount.allow(Allow::Warnings);
        for worker in &mut workers {
            worker.check(&format!("seed {seed}, kill {round}"));
        }
    }
    let steps: u64 = workers.iter().map(|worker| worker.steps).sum();
    let took = began.elapsed().as_secs();
    Campaign::report(format!("{rounds} kills under {steps} operations in {took} s {options:?}"));
    assert!(steps > u64::from(rounds) * 20, "{steps} operations are no load");
    drop(workers);
    mount.unmount();
    vault.verify();
}

#[test]
fn kept_with_the_writeback_cache() {
    kill_again_and_again(&[], 1, Campaign::pick(10, 100));
}

#[test]
fn kept_without_the_writeback_cache() {
    kill_again_and_again(&["--no-writeback"], 1000, Campaign::pick(10, 100));
}
