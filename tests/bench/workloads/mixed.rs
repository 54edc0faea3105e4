//! Four programs at once, as on a machine that is used: they meet in the daemon.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::bulk::{BLOCK, NAME, check, fill, stamp};
use super::{Row, Sequence, Supplies, small_files};
use crate::error::{Context, Error, Result};
use crate::stage::Stage;

const JOBS: [fn(&Path, &Supplies) -> Result<()>; 4] = [stream, read, write, handle];

/// Times the four until the last of them is done.
pub fn run(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    let mib = supplies.scale.file_mib / 4;
    for name in ["read", "write", "stream", "small"] {
        let directory = stage.directory().join(name);
        fs::create_dir(&directory).with(|| directory.display().to_string())?;
        if name == "read" || name == "write" {
            fill(&directory, mib, OpenOptions::new().write(true).create_new(true))?;
        }
    }
    stage.cool()?;
    stage.time(Row::Mixed, 1.0, |directory| {
        thread::scope(|scope| {
            let jobs = JOBS.map(|job| scope.spawn(move || job(directory, supplies)));
            jobs.into_iter().try_for_each(|job| {
                job.join().unwrap_or_else(|_| Err(Error::new("a job has panicked")))
            })
        })
    })
}

/// Times lookups while others wait for the disk.
pub fn lookups(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    let (stop, lookups) = (AtomicBool::new(false), supplies.scale.random_reads / 4);
    let directory = stage.directory().to_owned();
    thread::scope(|scope| {
        let sync = |number| sync_until(&stop, directory.join(format!("synced-{number}")));
        let syncs: Vec<_> = (0..8).map(|number| scope.spawn(move || sync(number))).collect();
        thread::sleep(Duration::from_millis(100));
        let timed = stage.time(Row::LookUps, f64::from(lookups), |directory| {
            for number in 0..lookups {
                if directory.join(format!("missing-{number}")).exists() {
                    return Err(Error::new("a name is there that nobody made"));
                }
            }
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        let joined = syncs.into_iter().try_for_each(|sync| {
            sync.join().unwrap_or_else(|_| Err(Error::new("a job has panicked")))
        });
        timed.and(joined)
    })
}

/// Writes 4 KiB and fsyncs, again and again.
fn sync_until(stop: &AtomicBool, path: PathBuf) -> Result<()> {
    let file = File::create(&path).with(|| path.display().to_string())?;
    while !stop.load(Ordering::Relaxed) {
        file.write_all_at(&[0x5A; BLOCK], 0).with(|| "writing".into())?;
        file.sync_all().with(|| "fsync".into())?;
    }
    Ok(())
}

/// Writes a large file, and fsyncs.
fn stream(top: &Path, supplies: &Supplies) -> Result<()> {
    let mut options = OpenOptions::new();
    fill(&top.join("stream"), supplies.scale.file_mib / 2, options.write(true).create_new(true))
}

/// Reads 4 KiB at random places.
fn read(top: &Path, supplies: &Supplies) -> Result<()> {
    let file = File::open(top.join("read").join(NAME)).with(|| NAME.into())?;
    let mut buffer = vec![0; BLOCK];
    for offset in places(3, supplies).take(supplies.scale.random_reads as usize / 2) {
        file.read_exact_at(&mut buffer, offset).with(|| format!("reading at {offset}"))?;
        check(&buffer, offset)?;
    }
    Ok(())
}

/// Writes 4 KiB at random places, and fsyncs.
fn write(top: &Path, supplies: &Supplies) -> Result<()> {
    let path = top.join("write").join(NAME);
    let file = OpenOptions::new().read(true).write(true).open(path).with(|| NAME.into())?;
    let mut buffer = vec![0x5A; BLOCK];
    for offset in places(4, supplies).take(supplies.scale.random_writes as usize / 2) {
        stamp(&mut buffer, offset);
        file.write_all_at(&buffer, offset).with(|| format!("writing at {offset}"))?;
    }
    file.sync_all().with(|| "fsync".into())
}

/// Makes, lists, reads and removes small files.
fn handle(top: &Path, supplies: &Supplies) -> Result<()> {
    small_files::whole_life(&top.join("small"), supplies.scale.small_files / 4)
}

fn places(seed: u64, supplies: &Supplies) -> impl Iterator<Item = u64> {
    let blocks = supplies.scale.file_mib / 4 * 256;
    let mut sequence = Sequence(seed);
    std::iter::from_fn(move || Some(sequence.below(blocks) * BLOCK as u64))
}
