//! The file system of one mount: its state, and the order of its locks.

use std::collections::HashSet;
use std::hash::RandomState;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use rustix::io::Errno;

use super::access::handle::Handles;
use super::maintenance::reaper::Reaper;
use super::maintenance::rewrap_runs::RewrapRuns;
use super::namespace::directory_keys::Assignments;
use super::namespace::identities::Identities;
use super::namespace::key_locks::KeyLocks;
use super::namespace::moves::Moves;
use super::namespace::nodes::Nodes;
use super::namespace::pending_frees::PendingFrees;
use super::namespace::resolver::PathResolver;
use super::ops::dir_streams::DirStreams;
use super::ops::open_files::access_times::AccessTimes;
use super::ops::open_files::change_times::ChangeTimes;
use super::ops::open_files::table::OpenFiles;
use super::{FsError, Inode};
use crate::store::{FileError, Vault, VaultError};
use crate::trail::Trail;

/// Directories that are kept open at most; see [`Fs::new`].
const MAX_DIRS: usize = 256;

/// A vault as a file system. It is the vault's only user, so that what it remembers stays true.
///
/// While a name changes, a call may wait for the backing filesystem's disk. Only calls about the same
/// name or the same inode wait for it:
///
/// - What `nodes` say of a name in a directory is so in the vault while the lock of the name in
///   `names` is held. Making, removing or moving a name takes the lock exclusively, from before the
///   call on the vault until `nodes` say the same; finding or using it takes the lock shared.
/// - The number of names of an inode changes only under its lock in `links`.
/// - A directory's descriptor stays valid when the directory moves, so operations below it need not
///   wait. A resolution by the names of directories that fails while one moves is done again
///   (`Moves::follow`).
/// - What follows from several `nodes`, a path or the key of a directory, is determined under
///   `ancestry`. A rename takes it exclusively while it changes `nodes`, and not during disk access.
///
/// Lock order: `names` (two of them by `KeyLocks::both`), `links`, the moves in flight in `moves`,
/// `ancestry`, then the locks within `nodes`, `open` and the files themselves. The lock of the key
/// ring (`Context::ring`) comes last, and /proc is not read under it.
#[derive(Debug)]
pub struct Fs {
    pub(in crate::fs) vault: Vault,
    pub(in crate::fs) resolver: PathResolver,
    pub(in crate::fs) nodes: Nodes,
    pub(in crate::fs) open: Arc<OpenFiles>,
    pub(in crate::fs) change_times: Arc<ChangeTimes>,
    pub(in crate::fs) streams: DirStreams,
    pub(in crate::fs) handles: Handles,
    pub(in crate::fs) assignments: Assignments,
    /// By directory and stored name, hashed by `name_hash`.
    pub(in crate::fs) names: KeyLocks,
    pub(in crate::fs) name_hash: RandomState,
    /// By inode.
    pub(in crate::fs) links: KeyLocks,
    pub(in crate::fs) ancestry: RwLock<()>,
    pub(in crate::fs) moves: Moves,
    pub(in crate::fs) rewraps: RewrapRuns,
    pub(in crate::fs) reaper: Reaper,
    pub(in crate::fs) pending_frees: Arc<PendingFrees>,
    pub(in crate::fs) trail: OnceLock<Arc<Trail>>,
    pub(in crate::fs) identities: Identities,
    /// The last open that empties a file and was recorded: the file, the thread, and when.
    pub(in crate::fs) emptying: Mutex<Option<(Inode, u32, Instant)>>,
    /// Files of which a sync failed: the backing filesystem may have lost some of their content.
    pub(in crate::fs) not_durable: Mutex<HashSet<Inode>>,
    /// See [`Fs::look_at_space`].
    pub(in crate::fs) is_space_scarce: AtomicBool,
    /// See [`Fs::cuts_what_was_lost`].
    pub(in crate::fs) truncating_thread: AtomicU32,
    pub(in crate::fs) euid: u32,
    pub(in crate::fs) egid: u32,
}

impl Fs {
    /// The file system of an open vault.
    ///
    /// # Errors
    /// [`FsError::Backing`] with the error of openat(2) or fstat(2) on the vault's directory.
    pub fn new(vault: Vault) -> Result<Self, FsError> {
        let euid = rustix::process::geteuid().as_raw();
        let change_times = Arc::new(ChangeTimes::from_bytes(&vault.change_times()));
        let open =
            OpenFiles::new(Arc::clone(vault.context()), vault.access(), Arc::clone(&change_times));
        Ok(Self {
            resolver: PathResolver::new(&vault, MAX_DIRS)?,
            nodes: Nodes::default(),
            open,
            change_times,
            streams: DirStreams::default(),
            assignments: Assignments::default(),
            names: KeyLocks::default(),
            name_hash: RandomState::new(),
            links: KeyLocks::default(),
            ancestry: RwLock::new(()),
            moves: Moves::default(),
            rewraps: RewrapRuns::default(),
            reaper: Reaper::default(),
            pending_frees: Arc::default(),
            handles: Handles::default(),
            trail: OnceLock::new(),
            identities: Identities::default(),
            emptying: Mutex::default(),
            not_durable: Mutex::default(),
            is_space_scarce: AtomicBool::new(false),
            truncating_thread: AtomicU32::new(0),
            euid,
            egid: rustix::process::getegid().as_raw(),
            vault,
        })
    }

    /// The vault below.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Ends the use of the vault: commits what is still open and marks a clean end.
    ///
    /// # Errors
    /// [`VaultError::Outstanding`] where files could not be completed, and what else failed; the
    /// mount counts as crashed then, and nothing that was fsynced is lost.
    pub fn close(&self) -> Result<(), VaultError> {
        let (failed, all_synced) = self.open.finish();
        let mut lost: Vec<Inode> = failed.iter().map(|(inode, _)| *inode).collect();
        lost.extend(self.not_durable.lock().iter());
        lost.sort();
        lost.dedup();
        if let Some(times) = self.change_times.to_bytes()
            && let Err(error) = self.vault.keep_change_times(&times)
        {
            log::info!("changed files will show another ctime after the next mount: {error}");
        }
        let reason = failed.first().map(|(_, error)| error.to_string());
        self.vault.close(all_synced, lost.len() as u64, reason.as_deref())
    }

    /// When a read moves the time of access. Before anything is opened.
    pub fn keep_access_times(&self, when: AccessTimes) {
        self.open.keep_access_times(when);
    }

    /// The kernel keeps the times of files by itself (FUSE_WRITEBACK_CACHE). Before anything is
    /// opened.
    pub fn kernel_keeps_times(&self) {
        self.change_times.kernel_keeps_them();
    }

    pub(in crate::fs) fn vault_dir(&self) -> BorrowedFd<'_> {
        self.vault.as_fd()
    }

    /// The regular files that the kernel knows, whose content it may have cached.
    pub fn known_files(&self) -> Vec<Inode> {
        self.nodes.files()
    }

    /// The number of inodes that the kernel knows.
    pub fn known_inodes(&self) -> usize {
        self.nodes.len()
    }

    /// Names the file in an error. A sync that failed during the work is noted as any other that
    /// failed.
    pub(in crate::fs) fn in_file<T>(
        &self,
        inode: Inode,
        result: Result<T, FileError>,
    ) -> Result<T, FsError> {
        result.map_err(|error| {
            if let Some(file) = self.open.find(inode)
                && let Err(unreported) = file.take_unreported()
            {
                let errno = Errno::from_io_error(&unreported).unwrap_or(Errno::IO);
                file.failed_syncs.note(errno, self.handles.newest());
                self.note_not_durable(inode, &file);
            }
            FsError::File { path: self.resolver.path(&self.nodes, inode), error }
        })
    }

    /// Closes the descriptors that are open only to save time.
    pub(in crate::fs) fn free_descriptors(&self) {
        self.resolver.close_dirs();
        self.open.close_unsynced();
    }
}
