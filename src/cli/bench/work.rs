//! A few seconds of work in a directory: once on a mount, once beside it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::Rng;
use rustix::fs::{Advice, fadvise};
use serde::Serialize;

use crate::cli::bench::interrupt::Interrupt;
use crate::cli::bench::scratch::Scratch;
use crate::service::failure::{Exit, Failure};
use crate::sys::Show;

const MIB: u64 = 1 << 20;
const BLOCK: usize = 4096;
/// Bytes of the large file.
const LARGE: u64 = 128 * MIB;
/// The most files, and the most random calls.
const MANY: u64 = 5000;
/// How long one piece of work may take: a slow disk is measured by fewer calls.
const LIMIT: Duration = Duration::from_millis(700);

/// Each piece of work, and what it is called.
pub const ROWS: [(&str, &str); 8] = [
    ("write", "write a file"),
    ("read", "read it"),
    ("random_read", "read 4 KiB anywhere"),
    ("random_write", "write 4 KiB anywhere"),
    ("create", "create 4 KiB files"),
    ("stat", "stat them"),
    ("small_read", "read them"),
    ("delete", "remove them"),
];

/// A rate: more is better.
#[derive(Debug, Serialize)]
pub struct Rate {
    /// The unit that is counted each second.
    pub unit: &'static str,
    /// On a mounted vault.
    pub mounted: f64,
    /// In a directory beside the vault.
    pub bare: f64,
}

/// Does all of it in `directory`.
///
/// # Errors
/// When nothing can be made or mounted there, when it is full, and after a signal.
pub fn measure(
    directory: &Path,
    interrupt: &Interrupt,
) -> Result<BTreeMap<&'static str, Rate>, Failure> {
    require_space(directory)?;
    let mut scratch = Scratch::make(directory)?;
    scratch.mount()?;
    let (mount, bare) = (scratch.mountpoint(), scratch.bare());
    let mut mounted = large(&mount, interrupt)?;
    let files = create(&mount, interrupt, &mut mounted)?;
    // So that the mount's kernel knows none of them.
    scratch.unmount()?;
    scratch.mount()?;
    look_and_remove(&mount, files, interrupt, &mut mounted)?;
    scratch.unmount()?;
    let mut beside = large(&bare, interrupt)?;
    let files = create(&bare, interrupt, &mut beside)?;
    look_and_remove(&bare, files, interrupt, &mut beside)?;
    let both = mounted.into_iter().zip(beside);
    Ok(both
        .map(|((name, (unit, mounted)), (_, (_, bare)))| (name, Rate { unit, mounted, bare }))
        .collect())
}

type Rates = BTreeMap<&'static str, (&'static str, f64)>;

fn require_space(directory: &Path) -> Result<(), Failure> {
    let needed = 3 * LARGE;
    let space = rustix::fs::statvfs(directory).map_err(std::io::Error::from)?;
    let free = space.f_bavail * space.f_frsize;
    if free < needed {
        let (free, needed) = (free / MIB, needed / MIB);
        let message = format!(
            "{} has {free} MiB free, of {needed} that are needed: name another directory",
            directory.shown()
        );
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(())
}

/// The file of many blocks.
fn large(directory: &Path, interrupt: &Interrupt) -> Result<Rates, Failure> {
    let mut rates = Rates::new();
    let path = directory.join("large");
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let mut buffer = vec![0xa5; MIB as usize];
    let (written, seconds) = timed(
        LARGE / MIB,
        interrupt,
        |number| {
            file.write_all_at(&buffer, number * MIB)?;
            Ok(())
        },
        || file.sync_data(),
    )?;
    rates.insert("write", ("MiB/s", written as f64 / seconds));
    forget(&file)?;
    let (read, seconds) = timed(
        written,
        interrupt,
        |number| {
            file.read_exact_at(&mut buffer, number * MIB)?;
            Ok(())
        },
        || Ok(()),
    )?;
    rates.insert("read", ("MiB/s", read as f64 / seconds));
    forget(&file)?;
    // Read-ahead would make it something else.
    fadvise(&file, 0, None, Advice::Random).map_err(std::io::Error::from)?;
    let blocks = written * MIB / BLOCK as u64;
    let mut anywhere = rand::rng();
    let mut place = || anywhere.next_u64() % blocks * BLOCK as u64;
    let block = &mut buffer[..BLOCK];
    let (read, seconds) = timed(
        MANY,
        interrupt,
        |_| {
            file.read_exact_at(block, place())?;
            Ok(())
        },
        || Ok(()),
    )?;
    rates.insert("random_read", ("calls/s", read as f64 / seconds));
    let (written, seconds) = timed(
        4 * MANY,
        interrupt,
        |_| {
            file.write_all_at(block, place())?;
            Ok(())
        },
        || file.sync_data(),
    )?;
    rates.insert("random_write", ("calls/s", written as f64 / seconds));
    drop(file);
    fs::remove_file(path)?;
    Ok(rates)
}

/// Makes many files, and returns how many.
fn create(directory: &Path, interrupt: &Interrupt, rates: &mut Rates) -> Result<u64, Failure> {
    let (made, seconds) = timed(
        MANY,
        interrupt,
        |number| {
            File::create_new(small(directory, number))?.write_all(&[0x3c; BLOCK])?;
            Ok(())
        },
        || Ok(()),
    )?;
    rates.insert("create", ("files/s", made as f64 / seconds));
    Ok(made)
}

/// Looks at the `files`, reads and removes them.
fn look_and_remove(
    directory: &Path,
    files: u64,
    interrupt: &Interrupt,
    rates: &mut Rates,
) -> Result<(), Failure> {
    let mut entries = fs::read_dir(directory)?;
    let (seen, seconds) = timed(
        files,
        interrupt,
        |_| {
            entries.next().transpose()?.map(|entry| entry.metadata()).transpose()?;
            Ok(())
        },
        || Ok(()),
    )?;
    rates.insert("stat", ("files/s", seen as f64 / seconds));
    let mut content = [0; BLOCK];
    let (read, seconds) = timed(
        files,
        interrupt,
        |number| {
            File::open(small(directory, number))?.read_exact(&mut content)?;
            Ok(())
        },
        || Ok(()),
    )?;
    rates.insert("small_read", ("files/s", read as f64 / seconds));
    let (removed, seconds) = timed(
        files,
        interrupt,
        |number| {
            fs::remove_file(small(directory, number))?;
            Ok(())
        },
        || Ok(()),
    )?;
    rates.insert("delete", ("files/s", removed as f64 / seconds));
    Ok(())
}

fn small(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("file-{number}"))
}

/// Has the kernel forget the content of a file, which is in its place by then.
fn forget(file: &File) -> Result<(), Failure> {
    file.sync_data()?;
    fadvise(file, 0, None, Advice::DontNeed).map_err(std::io::Error::from)?;
    Ok(())
}

/// Calls `step` with 0, 1, …, until it was called `most` times or the time is up, and then
/// `finish`; returns how often, and the seconds that all of it took.
fn timed(
    most: u64,
    interrupt: &Interrupt,
    mut step: impl FnMut(u64) -> Result<(), Failure>,
    finish: impl FnOnce() -> std::io::Result<()>,
) -> Result<(u64, f64), Failure> {
    let begun = Instant::now();
    let mut done = 0;
    while done < most && (done == 0 || begun.elapsed() < LIMIT) {
        interrupt.check()?;
        step(done)?;
        done += 1;
    }
    finish()?;
    Ok((done, begun.elapsed().as_secs_f64()))
}
