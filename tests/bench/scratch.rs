//! Temporary directories that are unmounted and removed however the bench ends.
//!
//! Clearing up belongs to a guard: this same program, started in a process group of its own with
//! one end of a pipe as its standard input. The pipe closes when the bench ends, be it by return,
//! panic, Ctrl-C or SIGKILL, and only then does the guard unmount what is still mounted below the
//! directories and remove them. A bench that ends well waits for it.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio, id};
use std::thread::sleep;
use std::time::Duration;

use crate::error::{Context, Error, Result};
use crate::mounts;

/// How long a busy mount is asked before it is detached.
const PATIENCE: Duration = Duration::from_secs(2);

/// One private directory below each parent, a home directory for tools, and their guard.
pub struct Scratch {
    directories: Vec<PathBuf>,
    guard: Child,
}

impl Scratch {
    /// Makes a directory below each of `parents`, under names no other run has.
    pub fn new(parents: &[PathBuf]) -> Result<Self> {
        let home = std::env::temp_dir();
        let mut directories = Vec::new();
        for parent in parents.iter().chain([&home]) {
            match unique_below(parent) {
                Ok(directory) => directories.push(directory),
                Err(error) => {
                    // No guard yet: the empty ones made so far go here.
                    directories.iter().for_each(|made| drop(fs::remove_dir(made)));
                    return Err(error);
                }
            }
        }
        let guard = std::env::current_exe()
            .and_then(|program| {
                Command::new(program)
                    .arg("--guard")
                    .args(&directories)
                    .stdin(Stdio::piped())
                    .process_group(0)
                    .spawn()
            })
            .with(|| "starting the guard of the scratch directories".into())?;
        Ok(Self { directories, guard })
    }

    /// The directory below each parent, in the parents' order.
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories[..self.directories.len() - 1]
    }

    /// A directory for configuration, archives and compiled tools.
    pub fn home(&self) -> &Path {
        &self.directories[self.directories.len() - 1]
    }

    /// Has everything removed and waits for that.
    pub fn clear(mut self) -> Result<()> {
        let status = self.guard.wait().with(|| "waiting for the guard".into())?;
        if status.success() {
            Ok(())
        } else {
            Err(Error::new("scratch directories could not be removed"))
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // `wait` closes the pipe first; after `clear` it returns at once.
        let _ = self.guard.wait();
    }
}

/// The guard's whole life: waits for the end of standard input, then clears `directories`.
pub fn guard(directories: &[PathBuf]) -> Result<()> {
    // Whatever comes, bytes or an error, the bench is gone once this returns.
    let _ = io::stdin().read_to_end(&mut Vec::new());
    let mut outcome = Ok(());
    for directory in directories {
        outcome = outcome.and(sweep(directory));
    }
    outcome
}

/// Unmounts everything below `directory`, newest first, and removes it.
fn sweep(directory: &Path) -> Result<()> {
    for mount in mounts::all()?.iter().rev().filter(|mount| mount.mountpoint.starts_with(directory))
    {
        mounts::unmount(&mount.mountpoint, PATIENCE)
            .or_else(|_| mounts::detach(&mount.mountpoint))?;
    }
    // A tool that outlived the bench may still be writing.
    let mut attempts = 0..20;
    loop {
        match fs::remove_dir_all(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if attempts.next().is_none() => {
                return Err(error).with(|| format!("removing {}", directory.display()));
            }
            Err(_) => sleep(Duration::from_millis(100)),
        }
    }
}

fn unique_below(parent: &Path) -> Result<PathBuf> {
    for number in 0.. {
        let directory = parent.join(format!("atrest-bench.{}.{number}", id()));
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            outcome => {
                return outcome
                    .map(|()| directory)
                    .with(|| format!("making a directory in {}", parent.display()));
            }
        }
    }
    unreachable!("the numbers do not end")
}
