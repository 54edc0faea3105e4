//! What is measured against what.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Instant;

use super::measure::{Ground, each};
use crate::error::{Context, Error, Result};
use crate::workloads::Sequence;

const BLOCK: usize = 4096;
/// Operations in a measurement.
const TIMES: u32 = 1000;

/// Times by the operation's name, in microseconds.
pub type Times = Vec<(&'static str, f64)>;

/// A figure's worth of measurements.
pub struct Series {
    pub name: &'static str,
    pub title: &'static str,
    /// What grows.
    pub x: &'static str,
    pub points: Vec<u64>,
    pub measure: fn(&mut Ground, u64) -> Result<Times>,
}

pub fn all(quick: bool) -> [Series; 4] {
    let upto = |most: u64, quickly: u64, points: &[u64]| {
        let most = if quick { quickly } else { most };
        points.iter().copied().filter(|point| *point <= most).collect()
    };
    let tens = [100, 1000, 10_000, 100_000, 1_000_000];
    [
        Series {
            name: "scaling-file-size",
            title: "Against the size of the file (sparse)",
            x: "MiB in the file",
            points: upto(102_400, 1024, &[16, 128, 1024, 10_240, 102_400]),
            measure: file_size,
        },
        Series {
            name: "scaling-directory",
            title: "Against the entries of the directory",
            x: "entries",
            points: upto(1_000_000, 1000, &tens),
            measure: directory,
        },
        Series {
            name: "scaling-files",
            title: "Against the files in the vault, a thousand in each directory",
            x: "files",
            points: upto(1_000_000, 10_000, &tens[1..]),
            measure: files,
        },
        Series {
            name: "scaling-threads",
            title: "Against the threads that work at once, all operations together",
            x: "threads",
            points: upto(32, 4, &[1, 2, 4, 8, 16, 32]),
            measure: threads,
        },
    ]
}

/// 4 KiB written and read at random places of a file of `mib`, most of which is a hole.
fn file_size(ground: &mut Ground, mib: u64) -> Result<Times> {
    let path = ground.directory().join("file");
    let open = || {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        options.open(&path).with(|| path.display().to_string())
    };
    let file = open()?;
    file.set_len(mib << 20).with(|| "ftruncate".into())?;
    let places: Vec<u64> = places(mib * 256).take(TIMES as usize).collect();
    let block = [0x5a; BLOCK];
    let write = each(
        TIMES,
        |number| file.write_all_at(&block, places[number as usize]),
        || file.sync_data(),
    )?;
    drop(file);
    ground.remount(|_| Ok(()))?;
    let file = open()?;
    let mut content = [0; BLOCK];
    let read =
        each(TIMES, |number| file.read_exact_at(&mut content, places[number as usize]), || Ok(()))?;
    let stat = each(TIMES, |_| file.metadata().map(drop), || Ok(()))?;
    if content != block {
        return Err(Error::new("wrong bytes"));
    }
    Ok(vec![("write 4 KiB, synced", write), ("read 4 KiB", read), ("stat", stat)])
}

/// Names found, made, listed and removed in a directory of `entries`.
fn directory(ground: &mut Ground, entries: u64) -> Result<Times> {
    ground.remount(|below| fill(&below.join("directory"), 0..entries))?;
    let directory = ground.directory().join("directory");
    let found: Vec<u64> =
        places(entries).map(|place| place / BLOCK as u64).take(TIMES as usize).collect();
    let path = |number: u64| directory.join(format!("file-{number}"));
    let lookup = each(
        // No more than there are: what was looked up is known.
        TIMES.min(entries as u32),
        |number| fs::metadata(path(found[number as usize])).map(drop),
        || Ok(()),
    )?;
    let begun = Instant::now();
    let listed = fs::read_dir(&directory).with(|| "readdir".into())?.count() as u64;
    let list = begun.elapsed().as_secs_f64() * 1e6 / entries as f64;
    if listed != entries {
        return Err(Error::new(format!("{listed} entries listed")));
    }
    let create = each(
        TIMES,
        |number| File::create_new(path(entries + u64::from(number))).map(drop),
        || Ok(()),
    )?;
    let remove =
        each(TIMES, |number| fs::remove_file(path(entries + u64::from(number))), || Ok(()))?;
    Ok(vec![
        ("create", create),
        ("look up, cold", lookup),
        ("remove", remove),
        ("list, an entry", list),
    ])
}

/// Small files made, read and removed beside `others`; a mount and an unmount.
fn files(ground: &mut Ground, others: u64) -> Result<Times> {
    ground.remount(|below| {
        (0..others / 1000)
            .try_for_each(|number| fill(&below.join(format!("directory-{number}")), 0..1000))
    })?;
    let own = ground.directory().join("own");
    fs::create_dir(&own).with(|| "mkdir".into())?;
    let path = |number: u32| own.join(format!("file-{number}"));
    let content = [0x3c; BLOCK];
    let create =
        each(TIMES, |number| File::create_new(path(number))?.write_all(&content), || Ok(()))?;
    let begun = Instant::now();
    ground.remount(|_| Ok(()))?;
    let mount = begun.elapsed().as_secs_f64() * 1e6;
    let mut found = [0; BLOCK];
    let read = each(TIMES, |number| File::open(path(number))?.read_exact(&mut found), || Ok(()))?;
    if found != content {
        return Err(Error::new("wrong bytes"));
    }
    let remove = each(TIMES, |number| fs::remove_file(path(number)), || Ok(()))?;
    let mut times =
        vec![("create 4 KiB", create), ("open and read 4 KiB, cold", read), ("remove", remove)];
    // A bare directory has no mount to make.
    if ground.has_daemon() {
        times.push(("unmount and mount", mount));
    }
    Ok(times)
}

/// So many threads, each with files of its own.
fn threads(ground: &mut Ground, threads: u64) -> Result<Times> {
    let top = ground.directory().to_owned();
    let all = |work: &(dyn Fn(&Path, u32) -> std::io::Result<()> + Sync)| {
        let begun = Instant::now();
        thread::scope(|scope| {
            let workers: Vec<_> = (0..threads)
                .map(|thread| {
                    let directory = top.join(thread.to_string());
                    let share = (4 * u64::from(TIMES) / threads) as u32;
                    scope.spawn(move || (0..share).try_for_each(|n| work(&directory, n)))
                })
                .collect();
            workers.into_iter().try_for_each(|worker| {
                let done = worker.join().map_err(|_| Error::new("a worker has panicked"))?;
                done.with(|| "a worker".into())
            })
        })?;
        Ok::<_, Error>(begun.elapsed().as_secs_f64() * 1e6 / (4 * u64::from(TIMES)) as f64)
    };
    for thread in 0..threads {
        fs::create_dir(top.join(thread.to_string())).with(|| "mkdir".into())?;
    }
    let path = |directory: &Path, number: u32| directory.join(format!("file-{number}"));
    let content = [0x3c; BLOCK];
    let create =
        all(&|directory, number| File::create_new(path(directory, number))?.write_all(&content))?;
    ground.remount(|_| Ok(()))?;
    let read =
        all(&|directory, number| File::open(path(directory, number))?.read_exact(&mut [0; BLOCK]))?;
    let remove = all(&|directory, number| fs::remove_file(path(directory, number)))?;
    Ok(vec![("create 4 KiB", create), ("open and read 4 KiB, cold", read), ("remove", remove)])
}

/// Makes a directory of empty files.
fn fill(directory: &Path, numbers: std::ops::Range<u64>) -> Result<()> {
    fs::create_dir(directory).with(|| directory.display().to_string())?;
    for number in numbers {
        let path = directory.join(format!("file-{number}"));
        File::create_new(&path).with(|| path.display().to_string())?;
    }
    Ok(())
}

/// Offsets of blocks in a file of so many, in no order, each once as far as there are enough.
fn places(blocks: u64) -> impl Iterator<Item = u64> {
    let mut sequence = Sequence(5);
    std::iter::from_fn(move || Some(sequence.below(blocks) * BLOCK as u64))
}
