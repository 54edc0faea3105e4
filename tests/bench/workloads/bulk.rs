//! One large file: streamed, and hit at random.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Row, Sequence, Supplies};
use crate::error::{Context, Error, Result};
use crate::stage::Stage;

pub(super) const MIB: usize = 1 << 20;
pub(super) const BLOCK: usize = 4096;
pub(super) const NAME: &str = "large";

/// Write, rewrite and cold read of one file in calls of 1 MiB.
pub fn sequential(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    let mib = supplies.scale.file_mib;
    let amount = mib as f64;
    stage.time(Row::Write, amount, |directory| {
        fill(directory, mib, OpenOptions::new().write(true).create_new(true))
    })?;
    stage.time(Row::Rewrite, amount, |directory| {
        fill(directory, mib, OpenOptions::new().write(true))
    })?;
    stage.cool()?;
    stage.time(Row::Read, amount, |directory| read_all(directory, mib, MIB))?;
    stage.cool()?;
    stage.time(Row::Read4k, amount, |directory| read_all(directory, mib, BLOCK))
}

/// Reads the whole file in calls of `call` bytes.
fn read_all(directory: &Path, mib: u64, call: usize) -> Result<()> {
    let file = File::open(directory.join(NAME)).with(|| NAME.into())?;
    let mut buffer = vec![0; call];
    for offset in (0..mib * MIB as u64).step_by(call) {
        file.read_exact_at(&mut buffer, offset).with(|| format!("reading at {offset}"))?;
        check(&buffer, offset)?;
    }
    Ok(())
}

/// Reads and writes of 4 KiB at random block boundaries of one file.
pub fn random(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    let mib = supplies.scale.file_mib;
    let blocks = (mib as usize * MIB / BLOCK) as u64;
    fill(stage.directory(), mib, OpenOptions::new().write(true).create_new(true))?;
    stage.cool()?;
    let reads = supplies.scale.random_reads;
    stage.time(Row::RandomRead, f64::from(reads), |directory| {
        let file = File::open(directory.join(NAME)).with(|| NAME.into())?;
        let mut sequence = Sequence(1);
        let mut buffer = vec![0; BLOCK];
        for _ in 0..reads {
            let offset = sequence.below(blocks) * BLOCK as u64;
            file.read_exact_at(&mut buffer, offset).with(|| format!("reading at {offset}"))?;
            check(&buffer, offset)?;
        }
        Ok(())
    })?;
    stage.cool()?;
    let writes = supplies.scale.random_writes;
    stage.time(Row::RandomWrite, f64::from(writes), |directory| {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).open(directory.join(NAME)).with(|| NAME.into())?;
        let mut sequence = Sequence(2);
        let mut buffer = vec![0x5A; BLOCK];
        for _ in 0..writes {
            let offset = sequence.below(blocks) * BLOCK as u64;
            stamp(&mut buffer, offset);
            file.write_all_at(&buffer, offset).with(|| format!("writing at {offset}"))?;
        }
        file.sync_all().with(|| "fsync".into())
    })
}

/// Writes the whole file in calls of 1 MiB, then fsync and close.
pub(super) fn fill(directory: &Path, mib: u64, options: &OpenOptions) -> Result<()> {
    let file = options.open(directory.join(NAME)).with(|| NAME.into())?;
    let mut buffer = vec![0xA5; MIB];
    for offset in offsets(mib) {
        stamp(&mut buffer, offset);
        file.write_all_at(&buffer, offset).with(|| format!("writing at {offset}"))?;
    }
    file.sync_all().with(|| "fsync".into())
}

fn offsets(mib: u64) -> impl Iterator<Item = u64> {
    (0..mib).map(|index| index * MIB as u64)
}

/// Marks each 4 KiB of `buffer` with its place in the file.
pub(super) fn stamp(buffer: &mut [u8], offset: u64) {
    for (block, place) in buffer.chunks_mut(BLOCK).zip((offset..).step_by(BLOCK)) {
        block[..8].copy_from_slice(&place.to_le_bytes());
    }
}

/// Refuses a buffer whose marks are not those of `offset`.
pub(super) fn check(buffer: &[u8], offset: u64) -> Result<()> {
    let mut blocks = buffer.chunks(BLOCK).zip((offset..).step_by(BLOCK));
    match blocks.find(|(block, place)| block[..8] != place.to_le_bytes()) {
        None => Ok(()),
        Some((_, place)) => Err(Error::new(format!("wrong bytes at {place}"))),
    }
}
