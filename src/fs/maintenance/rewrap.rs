//! Bringing every wrapped key to the newest version of a master key.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::tally::{FileFailure, Pass, Progress};
use crate::format::FileId;
use crate::fs::ops::open_files::open_file::OpenFile;
use crate::fs::{Fs, FsError};
use crate::keys::policy::Subject;
use crate::store::{Access, Identity, METADATA_DIR, RewrapTarget, Rewrapped, VaultError};

/// The options of [`Fs::rewrap`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrap {
    /// The master key that all files are to have afterwards.
    pub to: RewrapTarget,
    /// How many headers are written in a second at most.
    pub rate: Option<NonZeroU32>,
    /// Nothing is written, and what would be is counted.
    pub dry_run: bool,
    /// The subject to be named in the trail.
    pub by: Option<Subject>,
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
    pub failed: Vec<FileFailure>,
}

impl Fs {
    /// Wraps every file's key, and the vault's own, with the newest version of a master key: one
    /// header write a file. `progress` returns whether to go on. Stopped or killed at any point, it
    /// leaves a sound vault, and continues when it is run again. When it returns, all rewraps so
    /// far are durable.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `progress` stopped it; [`VaultError::Key`] where the vault's
    /// own key can't be rewrapped; [`VaultError::Io`] for the vault's directory or description,
    /// with EROFS where the vault is open read-only. Failures of single files are in the summary.
    pub fn rewrap(
        &self,
        how: &Rewrap,
        progress: &(dyn Fn(Progress) -> bool + Sync),
    ) -> Result<RewrapSummary, VaultError> {
        if !how.dry_run && self.vault.access() == Access::ReadOnly {
            return Err(Errno::ROFS.into());
        }
        let _run = self.rewraps.begin();
        let counts = Counts { dry_run: how.dry_run, summary: Mutex::default() };
        // First, because what is the matter with a master key is so for all files.
        if self.rewrap_vault_key(how)? {
            counts.summary.lock().rewrapped += 1;
        }
        let limiter = how.rate.map(RateLimiter::new);
        let one = |file: &OpenFile, path: &dyn Fn() -> PathBuf| {
            self.rewrap_file(file, how, limiter.as_ref(), path)
        };
        let access = if how.dry_run { Access::ReadOnly } else { Access::ReadWrite };
        let tally = self.tally(Path::new(""), progress)?;
        self.each_file_even_moved(
            &|visited, pass| {
                let done = self.on_visited(visited, access, |file, stat| {
                    Ok((one(file, &|| visited.path())?, file.inode(), stat.st_nlink))
                });
                if let Some((done, inode, names)) = tally.done(done, || visited.path()) {
                    let is_first = pass == Pass::Initial && (names <= 1 || tally.count(inode));
                    counts.add(done, is_first);
                }
                tally.advance(pass)
            },
            &|path, error| tally.fail(path, &error),
        )?;
        tally.require_end()?;
        // Files without a name are reached by no walk. Those that were unlinked after it visited them
        // are counted once more.
        let opened = self.open.each(|inode, file| {
            let path = || self.resolver.path(&self.nodes, inode);
            Ok((one(file, &path)?, rustix::fs::fstat(file.backing())?.st_nlink))
        });
        for (inode, done) in opened {
            let path = || self.resolver.path(&self.nodes, inode);
            if let Some((done, names)) = tally.done(done, path) {
                counts.add(done, names == 0);
            }
        }
        if !how.dry_run {
            self.vault.sync()?;
        }
        Ok(RewrapSummary { failed: tally.into_failures(), ..counts.summary.into_inner() })
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
            // If the trail refuses this event, it refuses that of the first file too, which reports
            // it.
            let _ = self.record_rewrap(who, Path::new(METADATA_DIR), before, identity());
        }
        Ok(done)
    }

    fn rewrap_file(
        &self,
        file: &OpenFile,
        how: &Rewrap,
        limiter: Option<&RateLimiter>,
        path: &dyn Fn() -> PathBuf,
    ) -> Result<Rewrapped, FsError> {
        let Some(who) = how.by.as_ref().filter(|_| !how.dry_run && self.trail().is_some()) else {
            return rewrap(file, how, limiter);
        };
        self.require_trail()?;
        let before = file.identity();
        let done = rewrap(file, how, limiter)?;
        if done == Rewrapped::Done {
            let (before, after) = (before.ok().flatten(), file.identity().ok().flatten());
            self.record_rewrap(who, &path(), before, after)?;
        }
        Ok(done)
    }
}

fn rewrap(
    file: &OpenFile,
    how: &Rewrap,
    limiter: Option<&RateLimiter>,
) -> Result<Rewrapped, FsError> {
    let would = |file: &OpenFile| {
        let done = file.try_rewrap(how.to);
        done.map_err(|error| FsError::File { path: PathBuf::new(), error })
    };
    match limiter {
        _ if how.dry_run => would(file),
        // Only a write takes a slot.
        Some(limiter) => match would(file)? {
            Rewrapped::Done => {
                limiter.wait();
                file.rewrap(how.to)
            }
            nothing_to_do => Ok(nothing_to_do),
        },
        None => file.rewrap(how.to),
    }
}

/// The summary in the making.
struct Counts {
    /// A file that is visited twice was not written the first time.
    dry_run: bool,
    summary: Mutex<RewrapSummary>,
}

impl Counts {
    fn add(&self, done: Rewrapped, is_first: bool) {
        let mut summary = self.summary.lock();
        match done {
            Rewrapped::Done if is_first || !self.dry_run => summary.rewrapped += 1,
            Rewrapped::AlreadyNew if is_first => summary.already_new += 1,
            Rewrapped::Empty if is_first => summary.empty += 1,
            Rewrapped::Done | Rewrapped::AlreadyNew | Rewrapped::Empty => {}
        }
    }
}

/// Keeps header writes apart.
struct RateLimiter {
    interval: Duration,
    next: Mutex<Instant>,
}

impl RateLimiter {
    fn new(rate: NonZeroU32) -> Self {
        Self { interval: Duration::from_secs(1) / rate.get(), next: Mutex::new(Instant::now()) }
    }

    /// Waits for the caller's turn.
    fn wait(&self) {
        let slot = {
            let mut next = self.next.lock();
            let slot = (*next).max(Instant::now());
            *next = slot + self.interval;
            slot
        };
        thread::sleep(slot.saturating_duration_since(Instant::now()));
    }
}
