//! Thousands of files of 4 KiB: made, listed, read, removed.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use super::{Row, Supplies};
use crate::error::{Context, Error, Result};
use crate::stage::Stage;

const SIZE: usize = 4096;
const PER_DIRECTORY: u32 = 100;

pub fn run(stage: &mut Stage, supplies: &Supplies) -> Result<()> {
    let directories = supplies.scale.small_files / PER_DIRECTORY;
    let amount = f64::from(supplies.scale.small_files);
    stage.time(Row::Create, amount, |top| create(top, directories))?;
    stage.cool()?;
    stage.time(Row::Stat, amount, |top| stat(top, directories))?;
    stage.cool()?;
    stage.time(Row::SmallRead, amount, |top| read(top, directories))?;
    stage.time(Row::Reopen, amount, |top| read(top, directories))?;
    stage.time(Row::Delete, amount, |top| delete(top, directories))
}

/// All of it without a clock, for as many of `files` as fill directories, and at least one.
pub(super) fn whole_life(top: &Path, files: u32) -> Result<()> {
    let directories = (files / PER_DIRECTORY).max(1);
    create(top, directories)?;
    stat(top, directories)?;
    read(top, directories)?;
    delete(top, directories)
}

fn create(top: &Path, directories: u32) -> Result<()> {
    let content = [0x3C; SIZE];
    for directory in paths(top, directories) {
        fs::create_dir(&directory).with(|| format!("mkdir {}", directory.display()))?;
        for path in paths(&directory, PER_DIRECTORY) {
            let written = File::create_new(&path).and_then(|mut file| file.write_all(&content));
            written.with(|| format!("creating {}", path.display()))?;
        }
    }
    Ok(())
}

/// What `ls -lR` does.
fn stat(top: &Path, directories: u32) -> Result<()> {
    let mut seen = 0;
    for directory in paths(top, directories) {
        let doing = || format!("listing {}", directory.display());
        for entry in fs::read_dir(&directory).with(doing)? {
            let metadata = entry.and_then(|entry| entry.metadata()).with(doing)?;
            seen += u32::from(metadata.len() == SIZE as u64);
        }
    }
    if seen == directories * PER_DIRECTORY {
        return Ok(());
    }
    Err(Error::new(format!(
        "{seen} files of {SIZE} bytes listed, not {}",
        directories * PER_DIRECTORY
    )))
}

fn read(top: &Path, directories: u32) -> Result<()> {
    let mut content = [0; SIZE];
    for directory in paths(top, directories) {
        for path in paths(&directory, PER_DIRECTORY) {
            let read = File::open(&path).and_then(|mut file| file.read_exact(&mut content));
            read.with(|| format!("reading {}", path.display()))?;
            if content != [0x3C; SIZE] {
                return Err(Error::new(format!("{}: wrong bytes", path.display())));
            }
        }
    }
    Ok(())
}

fn delete(top: &Path, directories: u32) -> Result<()> {
    for directory in paths(top, directories) {
        for path in paths(&directory, PER_DIRECTORY) {
            fs::remove_file(&path).with(|| format!("unlink {}", path.display()))?;
        }
        fs::remove_dir(&directory).with(|| format!("rmdir {}", directory.display()))?;
    }
    Ok(())
}

/// The paths of `count` entries below `top`.
fn paths(top: &Path, count: u32) -> impl Iterator<Item = PathBuf> {
    let top = top.to_owned();
    (0..count).map(move |number| top.join(format!("entry-{number:04}")))
}
