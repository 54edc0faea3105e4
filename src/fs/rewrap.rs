//! Bringing every wrapped key to the newest version of a master key.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::Stat;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::maintain::{Failure, Look, Progress, failure};
use super::open_file::OpenFile;
use super::{Fs, FsError};
use crate::format::FileId;
use crate::store::{Access, Identity, METADATA_DIR, RewrapTarget, Rewrapped, VaultError};
use crate::trail::Who;

/// How [`Fs::rewrap`] goes about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrap {
    /// The master key that all files are to have afterwards.
    pub to: RewrapTarget,
    /// How many headers are written in a second at most.
    pub rate: Option<NonZeroU32>,
    /// Nothing is written, and what would be is counted.
    pub dry_run: bool,
    /// Who is to be named in the trail.
    pub by: Option<Who>,
}

/// What [`Fs::rewrap`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapSummary {
    /// Files whose header was written anew, the vault's own key among them.
    pub rewrapped: u64,
    /// Files that the newest version wraps already.
    pub already_new: u64,
    /// Files without content, which have no key.
    pub empty: u64,
    /// Files that could not be rewrapped, by path.
    pub failed: Vec<Failure>,
}

impl Fs {
    /// Wraps every file's key, and the vault's own, with the newest version of a master key: one
    /// header write a file. `progress` says whether to go on. Stopped or killed at any point, it
    /// has done no harm, and goes on when run again. When it returns, what it and those before it
    /// wrote is durable.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` said so; [`VaultError::Key`] where the vault's own
    /// key can't be rewrapped; what the backing filesystem says of the vault's directory or
    /// description, EROFS where the vault is open for reading alone. What can't be done to single
    /// files is in the summary.
    pub fn rewrap(
        &self,
        how: &Rewrap,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<RewrapSummary, VaultError> {
        if !how.dry_run && self.vault.access() == Access::ReadOnly {
            return Err(Errno::ROFS.into());
        }
        let _run = self.rewraps.begin();
        let tally = Mutex::new(Tally { dry_run: how.dry_run, ..Tally::default() });
        // First, because what is the matter with a master key is so for all files.
        if self.rewrap_vault_key(how)? {
            tally.lock().summary.rewrapped += 1;
        }
        let pace = how.rate.map(Pace::new);
        let one = |file: &OpenFile, path: &dyn Fn() -> PathBuf| {
            self.rewrap_file(file, how, pace.as_ref(), path)
        };
        let access = if how.dry_run { Access::ReadOnly } else { Access::ReadWrite };
        let count = self.counter(Path::new(""), progress)?;
        self.each_file_even_moved(
            &|visited, look| {
                let done = self.on_visited(visited, access, |file, stat| {
                    Ok((one(file, &|| visited.path())?, *stat))
                });
                tally.lock().add(look, done, || visited.path());
                count.look(look)
            },
            &|path, error| tally.lock().summary.failed.push(failure(path, &error)),
        )?;
        count.finish()?;
        // Files without a name are reached by no walk. Those that were unlinked after it came by
        // are there once more.
        let opened = self.open.each(|inode, file| {
            let path = || self.places.path(&self.nodes, inode);
            Ok((one(file, &path)?, rustix::fs::fstat(file.backing())?))
        });
        for (inode, done) in opened {
            let nameless = done.as_ref().is_ok_and(|(_, stat)| stat.st_nlink == 0);
            let look = if nameless { Look::First } else { Look::Again };
            tally.lock().add(look, done, || self.places.path(&self.nodes, inode));
        }
        if !how.dry_run {
            self.vault.sync()?;
        }
        Ok(tally.into_inner().finish())
    }

    fn rewrap_vault_key(&self, how: &Rewrap) -> Result<bool, VaultError> {
        let identity = || {
            let description = self.vault.description();
            let file = FileId::from_bytes(*description.vault.as_bytes());
            Some(Identity { file, by: (description.key, description.key_version) })
        };
        if how.dry_run {
            return self.vault.try_rewrap_vault_key(how.to);
        }
        let before = identity();
        let done = self.vault.rewrap_vault_key(how.to)?;
        if done && let Some(who) = &how.by {
            // Refused, it is told of the first file.
            let _ = self.record_rewrap(who, Path::new(METADATA_DIR), before, identity());
        }
        Ok(done)
    }

    fn rewrap_file(
        &self,
        file: &OpenFile,
        how: &Rewrap,
        pace: Option<&Pace>,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Rewrapped, FsError> {
        let Some(who) = how.by.as_ref().filter(|_| !how.dry_run && self.trail().is_some()) else {
            return rewrap(file, how, pace);
        };
        self.trail_admits()?;
        let before = file.identity();
        let done = rewrap(file, how, pace)?;
        if done == Rewrapped::Done {
            let (before, after) = (before.ok().flatten(), file.identity().ok().flatten());
            self.record_rewrap(who, &path(), before, after)?;
        }
        Ok(done)
    }
}

fn rewrap(file: &OpenFile, how: &Rewrap, pace: Option<&Pace>) -> Result<Rewrapped, FsError> {
    let would = |file: &OpenFile| {
        let done = file.try_rewrap(how.to);
        done.map_err(|error| FsError::File { path: PathBuf::new(), error })
    };
    match pace {
        _ if how.dry_run => would(file),
        // Nobody waits for what can't be written.
        Some(pace) => match would(file)? {
            Rewrapped::Done => {
                pace.wait();
                file.rewrap(how.to)
            }
            nothing_to_do => Ok(nothing_to_do),
        },
        None => file.rewrap(how.to),
    }
}

/// Tells whether a rewrap was at work meanwhile.
#[derive(Debug, Default)]
pub struct Rewraps {
    begun: AtomicU64,
    ended: AtomicU64,
}

/// A rewrap at work.
pub(super) struct Run<'a>(&'a Rewraps);

impl Rewraps {
    /// `None` while one is at work. Between two calls that give the same number none was.
    pub fn quiet(&self) -> Option<u64> {
        let ended = self.ended.load(Ordering::SeqCst);
        (self.begun.load(Ordering::SeqCst) == ended).then_some(ended)
    }

    pub(super) fn begin(&self) -> Run<'_> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        Run(self)
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// The summary in the making.
#[derive(Default)]
struct Tally {
    summary: RewrapSummary,
    /// What was come by twice was not written the first time.
    dry_run: bool,
    /// Files of several names that were counted.
    counted: HashSet<(u64, u64)>,
}

impl Tally {
    fn add(
        &mut self,
        look: Look,
        done: Result<(Rewrapped, Stat), FsError>,
        path: impl FnOnce() -> PathBuf,
    ) {
        let (done, stat) = match done {
            Ok(done) => done,
            // Gone, or moved and so come by elsewhere.
            Err(FsError::Backing(Errno::NOENT) | FsError::Stale) => return,
            Err(error) => return self.summary.failed.push(failure(&path(), &error)),
        };
        let first = look == Look::First
            && (stat.st_nlink <= 1 || self.counted.insert((stat.st_dev, stat.st_ino)));
        match done {
            Rewrapped::Done if first || !self.dry_run => self.summary.rewrapped += 1,
            Rewrapped::AlreadyNew if first => self.summary.already_new += 1,
            Rewrapped::Empty if first => self.summary.empty += 1,
            Rewrapped::Done | Rewrapped::AlreadyNew | Rewrapped::Empty => {}
        }
    }

    fn finish(self) -> RewrapSummary {
        let mut summary = self.summary;
        summary.failed.sort_by(|a, b| a.path.cmp(&b.path));
        summary.failed.dedup_by(|a, b| a.path == b.path);
        summary
    }
}

/// Keeps header writes apart.
struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    fn new(rate: NonZeroU32) -> Self {
        Self { interval: Duration::from_secs(1) / rate.get(), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the caller's turn.
    fn wait(&self) {
        let turn = {
            let mut next = self.next.lock();
            let turn = (*next).max(Instant::now());
            *next = turn + self.interval;
            turn
        };
        thread::sleep(turn.saturating_duration_since(Instant::now()));
    }
}
