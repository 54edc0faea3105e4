//! Several processes change and read one file in every way there is, while its key is rotated and
//! its header rewrapped: no read finds what was never there, or what a change that had ended before
//! the read began had replaced. And the same on a disk that fills and empties, where what was never
//! there must not be found.

use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rustix::fs::{FallocateFlags, fallocate};

use crate::common::files::open_with;
use crate::common::{Allow, Campaign, Mapping, Mounted, Vault, require_root, rng, run};
use crate::disk::{Disk, Kind, Trouble};
use crate::history::{History, Look, SLOT, SLOTS, now, word, words};

const PROCESSES: u64 = 5;
/// No truncation goes below: what is mapped must not be cut off. The kernel does not keep mapped
/// stores and direct writes of one page in order, so each has a part of this.
const MAPPED: Range<usize> = 0..128;
const DIRECT: Range<usize> = 128..256;
const SHORTEST: usize = 256;
/// What an appended record takes: who, and which of theirs.
const RECORD: usize = 24;

struct Worker {
    writer: u64,
    number: u64,
    strict: bool,
    /// Ranges are zeroed and copied to where others store to mappings.
    together: bool,
    file: File,
    direct: File,
    appended: File,
    source: File,
    mapping: Mapping,
    history: History,
    random: Xoshiro256PlusPlus,
    unknown: u64,
    looked: u64,
}

/// What a process of [`hammer`] runs: not a test of its own.
#[test]
#[ignore = "a part of others, which start it"]
fn worker_process() {
    let get = |name: &str| std::env::var(format!("ATREST_HAMMER_{name}")).unwrap();
    let dir = PathBuf::from(get("DIR"));
    let writer: u64 = get("WRITER").parse().unwrap();
    let file = open_with(dir.join("file"), 0);
    let mapped = Mapping::shared(&file, MAPPED.end * SLOT).unwrap();
    let mut worker = Worker {
        writer,
        number: 0,
        strict: get("FORM") != "filling",
        together: get("FORM") == "together",
        direct: open_with(dir.join("file"), libc::O_DIRECT),
        appended: open_with(dir.join("appended"), libc::O_APPEND),
        source: open_with(dir.join(format!("source-{writer}")), 0),
        file,
        mapping: mapped,
        history: History::open(&PathBuf::from(get("HISTORY"))),
        random: rng(writer),
        unknown: 0,
        looked: 0,
    };
    let until = Instant::now() + Duration::from_secs(get("SECONDS").parse().unwrap());
    let mut appended = 0_u64;
    while Instant::now() < until {
        let done = worker.step(&mut appended);
        match done {
            Ok(()) => {}
            Err(error) if !worker.strict && is_full(&error) => {}
            Err(error) => panic!("process {writer}, step {}: {error}", worker.number),
        }
    }
    println!("{appended} {} {} {}", worker.number, worker.looked, worker.unknown);
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

impl Worker {
    fn step(&mut self, appended: &mut u64) -> io::Result<()> {
        self.number += 1;
        match self.random.random_range(0..24) {
            0..6 => self.write(),
            6..8 => self.write_direct(),
            8..10 => self.store(),
            10 => self.truncate(),
            11 => self.zero(FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE),
            12 => self.zero(FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE),
            13 => self.copy(),
            14 => self.file.sync_data(),
            15 => {
                let mut record = [0; RECORD];
                record[..8].copy_from_slice(&self.writer.to_le_bytes());
                record[8..16].copy_from_slice(&appended.to_le_bytes());
                record[16..].copy_from_slice(&(!*appended).to_le_bytes());
                self.appended.write_all(&record)?;
                *appended += 1;
                Ok(())
            }
            16..18 => self.read_direct(),
            _ => {
                let slots = self.some(0..SLOTS, 64);
                let begin = now();
                let mut bytes = vec![0; slots.len() * SLOT];
                let found = read_up_to(&self.file, &mut bytes, slots.start * SLOT)?;
                self.look(&slots, begin, &bytes, found);
                Ok(())
            }
        }
    }

    fn some(&mut self, within: Range<usize>, most: usize) -> Range<usize> {
        let first = self.random.random_range(within.clone());
        first..(first + self.random.random_range(1..=most)).min(within.end)
    }

    /// Where ranges are zeroed and copied to.
    fn ranges(&self) -> Range<usize> {
        if self.together { 0..SLOTS } else { MAPPED.end..SLOTS }
    }

    /// Slots that are whole pages.
    fn some_pages(&mut self) -> Range<usize> {
        let slots = self.some(DIRECT.start / 8..DIRECT.end / 8, 4);
        slots.start * 8..slots.end * 8
    }

    fn bytes(&self, slots: &Range<usize>) -> Vec<u8> {
        let fill = |slot| word(self.writer, self.number, slot).to_le_bytes().repeat(SLOT / 8);
        slots.clone().flat_map(fill).collect()
    }

    fn change(
        &mut self,
        slots: &Range<usize>,
        zero: bool,
        act: impl FnOnce(&mut Worker, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let bytes = self.bytes(slots);
        let (writer, number) = (self.writer, self.number);
        let value = |slot| if zero { 0 } else { word(writer, number, slot) };
        let numbers = self.history.begin(slots.clone(), value);
        act(self, &bytes)?;
        self.history.end(slots.start, &numbers);
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let slots = self.some(0..SLOTS, 40);
        let at = (slots.start * SLOT) as u64;
        self.change(&slots, false, |worker, bytes| worker.file.write_all_at(bytes, at))
    }

    fn write_direct(&mut self) -> io::Result<()> {
        let slots = self.some_pages();
        let at = (slots.start * SLOT) as u64;
        self.change(&slots, false, |worker, bytes| {
            let mut aligned = Aligned::new(bytes.len());
            aligned.bytes().copy_from_slice(bytes);
            worker.direct.write_all_at(aligned.bytes(), at)
        })
    }

    fn read_direct(&mut self) -> io::Result<()> {
        let slots = self.some_pages();
        let begin = now();
        let mut aligned = Aligned::new(slots.len() * SLOT);
        let found = read_up_to(&self.direct, aligned.bytes(), slots.start * SLOT)?;
        self.look(&slots, begin, aligned.bytes(), found);
        Ok(())
    }

    fn store(&mut self) -> io::Result<()> {
        let slots = self.some(MAPPED, 8);
        let range = slots.start * SLOT..slots.end * SLOT;
        self.change(&slots, false, |worker, bytes| {
            worker.mapping.bytes_mut()[range].copy_from_slice(bytes);
            worker.mapping.sync()
        })
    }

    fn truncate(&mut self) -> io::Result<()> {
        let length = self.random.random_range(SHORTEST..=SLOTS);
        self.change(&(length..SLOTS), true, |worker, _| worker.file.set_len((length * SLOT) as u64))
    }

    fn zero(&mut self, how: FallocateFlags) -> io::Result<()> {
        let slots = self.some(self.ranges(), 40);
        let (at, length) = ((slots.start * SLOT) as u64, (slots.len() * SLOT) as u64);
        self.change(&slots, true, |worker, _| Ok(fallocate(&worker.file, how, at, length)?))
    }

    fn copy(&mut self) -> io::Result<()> {
        let slots = self.some(self.ranges(), 40);
        self.source.write_all_at(&self.bytes(&slots), 0)?;
        let mut to = (slots.start * SLOT) as u64;
        self.change(&slots, false, |worker, bytes| {
            let (mut from, mut left) = (0, bytes.len());
            while left > 0 {
                let (source, file) = (&worker.source, &worker.file);
                let copied = rustix::fs::copy_file_range(
                    source,
                    Some(&mut from),
                    file,
                    Some(&mut to),
                    left,
                )?;
                if copied == 0 {
                    // The source was cut, because the disk had no room for it.
                    return Err(io::Error::from_raw_os_error(libc::ENOSPC));
                }
                left -= copied;
            }
            Ok(())
        })
    }

    fn look(&mut self, slots: &Range<usize>, begin: u64, bytes: &[u8], found: usize) {
        let seen = (found != bytes.len()).then_some(found);
        for (slot, bytes) in slots.clone().zip(bytes.chunks(SLOT)) {
            self.looked += 1;
            match check(self.strict, &self.history, slot, begin, bytes) {
                Look::Right => {}
                Look::Unknown => self.unknown += 1,
                Look::Wrong(wrong) => panic!("{wrong}, end of file {seen:?}"),
            }
        }
    }
}

fn check(strict: bool, history: &History, slot: usize, begin: u64, bytes: &[u8]) -> Look {
    if strict {
        return history.look(slot, begin, words(bytes));
    }
    let possible = |word: u64| {
        word == 0 || (word as u16 as usize == slot && (1..=PROCESSES).contains(&(word >> 56)))
    };
    match words(bytes).find(|word| !possible(*word)) {
        None => Look::Right,
        Some(word) => Look::Wrong(format!("slot {slot} holds {word:#x}")),
    }
}

/// Fills `bytes` as far as the file goes; the rest stays zeros.
fn read_up_to(file: &File, bytes: &mut [u8], at: usize) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], (at + done) as u64)? {
            0 => break,
            read => done += read,
        }
        // A direct read that ends within a page was of the end of the file.
        if !done.is_multiple_of(SLOT) {
            break;
        }
    }
    Ok(done)
}

/// Bytes that begin at a page.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    fn new(len: usize) -> Aligned {
        let bytes = vec![0; len + 4096];
        let start = bytes.as_ptr().align_offset(4096);
        Aligned { bytes, start, len }
    }

    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

/// Runs the processes on a mount for some seconds, with `meanwhile` again and again beside them.
/// `form` is `strict`, `together` (that, with mapped stores amid all else) or `filling`.
fn hammer(mount: &Mounted, form: &str, seconds: u64, mut meanwhile: impl FnMut()) {
    let strict = form != "filling";
    let history = mount.vault().scratch().join("history");
    History::create(&history);
    open_with(mount.join("file"), 0).set_len((SHORTEST * SLOT) as u64).unwrap();
    let start = |writer: u64| {
        let mut worker = Command::new(std::env::current_exe().unwrap());
        worker
            .args(["--exact", "hammer::worker_process", "--ignored", "--nocapture"])
            .env("ATREST_HAMMER_DIR", mount.path())
            .env("ATREST_HAMMER_WRITER", writer.to_string())
            .env("ATREST_HAMMER_FORM", form)
            .env("ATREST_HAMMER_HISTORY", &history)
            .env("ATREST_HAMMER_SECONDS", seconds.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        worker.spawn().unwrap()
    };
    let workers: Vec<_> = (1..=PROCESSES).map(start).collect();
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        meanwhile();
    }
    let mut wrong = Vec::new();
    let mut appended = Vec::new();
    let (mut steps, mut looked, mut unknown) = (0, 0, 0);
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            wrong.push(format!("{text}\n{}", String::from_utf8_lossy(&output.stderr)));
            continue;
        }
        let figures = text.lines().find_map(|line| {
            let words: Option<Vec<u64>> = line.split(' ').map(|word| word.parse().ok()).collect();
            words.filter(|words| words.len() == 4)
        });
        let figures = figures.unwrap_or_else(|| panic!("no figures in {text}"));
        appended.push(figures[0]);
        steps += figures[1];
        looked += figures[2];
        unknown += figures[3];
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n---\n"));
    Campaign::report(format!("{steps} steps, {looked} looks, {unknown} of them undecided"));
    assert!(steps > seconds * 20, "{steps} steps are no load");
    assert!(unknown * 20 <= looked, "{unknown} of {looked} looks told nothing");
    look_at_all(mount.path(), strict, &History::open(&history));
    if strict {
        check_appended(&mount.join("appended"), &appended);
    }
}

fn look_at_all(dir: &Path, strict: bool, history: &History) {
    let begin = now();
    let mut bytes = vec![0; SLOTS * SLOT];
    let found = read_up_to(&File::open(dir.join("file")).unwrap(), &mut bytes, 0).unwrap();
    assert!((SHORTEST * SLOT..=SLOTS * SLOT).contains(&found), "{found} bytes");
    for (slot, bytes) in bytes.chunks(SLOT).enumerate() {
        let look = check(strict, history, slot, begin, bytes);
        assert_eq!(look, Look::Right, "at the end");
    }
}

/// Every record is there once and whole.
fn check_appended(path: &Path, counts: &[u64]) {
    let bytes = fs::read(path).unwrap();
    assert_eq!(bytes.len() as u64, counts.iter().sum::<u64>() * RECORD as u64, "appended");
    let mut next = vec![0; counts.len()];
    for record in bytes.chunks(RECORD) {
        let words: Vec<u64> = words(record).collect();
        let expected = &mut next[words[0] as usize - 1];
        assert_eq!((words[1], words[2]), (*expected, !*expected), "a record out of order or torn");
        *expected += 1;
    }
    assert_eq!(next, counts);
}

fn same_after_remounts(vault: &Vault, options: &[&str], mut mount: Mounted, allow: Allow) {
    let expected = fs::read(mount.join("file")).unwrap();
    if !mount.try_unmount().success() {
        // An fsync has failed on the full disk.
        assert!(matches!(allow, Allow::Warnings), "the mount does not end cleanly");
        mount.forget();
    }
    drop(mount);
    for _ in 0..2 {
        let mut mount = vault.mount(options);
        mount.allow(allow);
        assert!(fs::read(mount.join("file")).unwrap() == expected, "another file after a remount");
        mount.unmount();
    }
    vault.verify();
}

fn hammer_with_rewraps(options: &[&str], form: &str) {
    let vault = Vault::init();
    let mount = vault.mount(options);
    hammer(&mount, form, Campaign::pick(20, 600), || {
        run(vault.command(&["key", "rotate"]).arg(vault.path())).ok();
        run(vault.command(&["key", "rewrap"]).arg(vault.path())).ok();
        thread::sleep(Duration::from_millis(300));
    });
    same_after_remounts(&vault, options, mount, Allow::Nothing);
}

#[test]
fn processes_on_one_file() {
    hammer_with_rewraps(&[], "strict");
}

#[test]
fn processes_on_one_file_without_the_writeback_cache() {
    hammer_with_rewraps(&["--no-writeback"], "strict");
}

#[test]
fn mapped_stores_amid_punches_and_copies() {
    hammer_with_rewraps(&[], "together");
    hammer_with_rewraps(&["--no-writeback"], "together");
}

fn hammer_on_a_filling_disk(options: &[&str]) {
    require_root();
    let Some(mut disk) = Disk::new(Kind::Ext4, Trouble::Full) else { return };
    let vault = disk.vault.clone();
    let mut mount = vault.mount(options);
    mount.allow(Allow::Errors);
    hammer(&mount, "filling", Campaign::pick(10, 300), || {
        disk.tighten(0);
        thread::sleep(Duration::from_millis(200));
        disk.heal();
        thread::sleep(Duration::from_millis(100));
    });
    same_after_remounts(&vault, options, mount, Allow::Warnings);
}

#[test]
fn processes_on_one_file_of_a_filling_disk() {
    hammer_on_a_filling_disk(&[]);
}

#[test]
fn processes_on_one_file_of_a_filling_disk_without_the_writeback_cache() {
    hammer_on_a_filling_disk(&["--no-writeback"]);
}
