//! POSIX semantics of a mounted vault, by operation family. Nothing here knows FUSE, so all of
//! it can be used, and tested, without a mount.

mod access;
mod caller;
mod descriptors;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod maintenance;
mod namespace;
mod ops;

use std::collections::HashSet;
use std::hash::RandomState;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use crate::format::StoredLen;
use crate::store::{FileError, Vault, VaultError};
use crate::trail::Trail;
use access::handles::Handles;
use maintenance::reaper::Reaper;
use maintenance::rewrap::Rewraps;
use namespace::assign::Assignments;
use namespace::at_path::{Place, Places};
use namespace::identities::Identities;
use namespace::key_locks::KeyLocks;
use namespace::moves::Moves;
use namespace::nodes::Nodes;
use namespace::pending_frees::Departing;
use ops::dirs::DirStreams;
use ops::open_files::change_times::ChangeTimes;
use ops::open_files::open_file::OpenFile;
use ops::open_files::table::OpenFiles;

pub use access::handles::Handle;
pub use access::permission::Wanted;
pub use access::simulate::{Operation, Use, Verdict};
pub use caller::Caller;
pub use error::FsError;
pub use maintenance::references::References;
pub use maintenance::rewrap::{Rewrap, RewrapSummary};
pub use maintenance::verify::{Failure, Progress, VerifySummary};
pub use namespace::inode::{Attr, Inode};
pub use namespace::lookup::Entry;
pub use ops::attrs::{Change, Time};
pub use ops::data::{Allocate, CopyProgress, Origin, Written};
pub use ops::dirs::{DirEntry, DirEntryPlus};
pub use ops::open_files::access_times::AccessTimes;

/// Directories that are kept open at most; see [`Fs::new`].
const MOST_DIRS: usize = 256;

/// A vault as a file system. It is the vault's only user, so what it remembers stays true.
///
/// While names change, a call may wait for the backing filesystem's disk. Another waits for it only if
/// it is about the same name or the same inode:
///
/// - What `nodes` say of a name in a directory is so in the vault while its lock in `names` is held.
///   Whoever makes, removes or moves a name holds it alone, from before the call on the vault until
///   `nodes` say the same; whoever finds or uses it holds it together with others.
/// - How many names an inode has changes only under its lock in `links`.
/// - A directory's descriptor is its own whatever it is called, so nobody below one that moves waits.
///   Who goes down by the names of directories and does not arrive tries again (`Moves::follow`).
/// - What follows from several `nodes`, a path or the key of a directory, is put together under
///   `ancestry`, which a rename holds alone while it changes `nodes`, and for no disk.
///
/// Lock order: `names` (two of them by `KeyLocks::both`), `links`, what is in flight in `moves`,
/// `ancestry`, then what `nodes`, `open` and the files themselves lock.
#[derive(Debug)]
pub struct Fs {
    vault: Vault,
    places: Places,
    nodes: Nodes,
    open: Arc<OpenFiles>,
    change_times: Arc<ChangeTimes>,
    streams: DirStreams,
    handles: Handles,
    assignments: Assignments,
    /// By directory and stored name, of which `name_hash` makes a number.
    names: KeyLocks,
    name_hash: RandomState,
    /// By inode.
    links: KeyLocks,
    ancestry: RwLock<()>,
    moves: Moves,
    rewraps: Rewraps,
    reaper: Reaper,
    departing: Arc<Departing>,
    trail: OnceLock<Arc<Trail>>,
    identities: Identities,
    /// The last open that empties a file and was recorded: the file, the thread, and when.
    emptying: Mutex<Option<(Inode, u32, Instant)>>,
    /// Files of which the backing filesystem lost something.
    unsound: Mutex<HashSet<Inode>>,
    /// See [`Fs::look_at_space`].
    scarce: AtomicBool,
    /// See [`Fs::cuts_what_was_lost`].
    cutter: AtomicU32,
    euid: u32,
    egid: u32,
}

impl Fs {
    /// The file system of an open vault.
    ///
    /// # Errors
    /// What the backing filesystem says.
    pub fn new(vault: Vault) -> Result<Self, FsError> {
        let euid = rustix::process::geteuid().as_raw();
        let change_times = Arc::new(ChangeTimes::from_bytes(&vault.change_times()));
        let open =
            OpenFiles::new(Arc::clone(vault.context()), vault.access(), Arc::clone(&change_times));
        Ok(Self {
            places: Places::new(&vault, MOST_DIRS)?,
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
            rewraps: Rewraps::default(),
            reaper: Reaper::default(),
            departing: Arc::default(),
            handles: Handles::default(),
            trail: OnceLock::new(),
            identities: Identities::default(),
            emptying: Mutex::default(),
            unsound: Mutex::default(),
            scarce: AtomicBool::new(false),
            cutter: AtomicU32::new(0),
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
        lost.extend(self.unsound.lock().iter());
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

    /// Notes that the backing filesystem lost something of a file that was to become durable: the
    /// mount does not end cleanly, unless the file goes or is gone.
    fn note_unsound(&self, inode: Inode, file: &OpenFile) {
        let mut unsound = self.unsound.lock();
        // Under the lock: an unlink at the same time either shows here, or removes it later.
        if !file.is_nameless() {
            unsound.insert(inode);
        }
    }

    /// A truncate by the thread `thread` of this process, to whatever length, cuts a file to what was
    /// written of it. By it, the kernel learns that it keeps more of the file than that.
    pub fn cuts_what_was_lost(&self, thread: u32) {
        self.cutter.store(thread, Ordering::Relaxed);
    }

    /// Whether a request is one of [`Fs::cuts_what_was_lost`].
    pub fn is_cut_of_lost(&self, caller: &Caller) -> bool {
        caller.pid != 0 && caller.pid == self.cutter.load(Ordering::Relaxed)
    }

    /// Keeps an open file open until one more [`Fs::release`]: what is known of its failed writes goes
    /// when it is closed. Whether it was open.
    pub fn keep_open(&self, inode: Inode) -> bool {
        self.open.hold(inode)
    }

    /// Whether an open file is longer than what was written of it, or than it would be with a write
    /// that failed and was to end at `end`.
    pub fn is_too_long(&self, inode: Inode, end: u64) -> bool {
        let too_long = |file: Arc<OpenFile>| file.len() < end || file.written_len() < file.len();
        self.open.find(inode).is_some_and(too_long)
    }

    /// How long an open file is without what could not be written; `None` where it is not open.
    pub fn written_len(&self, inode: Inode) -> Option<u64> {
        self.open.find(inode).map(|file| file.written_len())
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

    fn vault_dir(&self) -> BorrowedFd<'_> {
        self.vault.as_fd()
    }

    /// The regular files that the kernel knows, and may keep content of.
    pub fn known_files(&self) -> Vec<Inode> {
        self.nodes.files()
    }

    /// Inodes that the kernel knows at the moment.
    pub fn known_inodes(&self) -> usize {
        self.nodes.len()
    }

    /// The attributes of what lies at `place`.
    fn attr(&self, place: &Place, stat: &Stat) -> Result<Attr, FsError> {
        let inode = self.places.inode(stat)?;
        let size = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file_size(inode, place, stat.st_size as u64),
            _ => stat.st_size as u64,
        };
        let mut attr = Attr::new(inode, stat, size);
        if attr.kind == FileType::RegularFile {
            attr.ctime = self.change_times.shown(inode, stat).into();
        }
        if attr.blocks == 0
            && attr.kind == FileType::RegularFile
            && let Some(file) = self.open.find(inode)
        {
            attr.blocks = file.told_blocks().tell(0);
        }
        if inode == Inode::ROOT {
            let shown = self.vault.root_attrs();
            (attr.mode, attr.uid, attr.gid) = (shown.mode, shown.uid, shown.gid);
            // Where subdirectories count, the vault's own is one that the mount does not have.
            attr.nlink -= u32::from(attr.nlink > 2);
        }
        Ok(attr)
    }

    /// The plaintext size of a file. Stat always works: where the size in the vault is not that
    /// of a sealed file it is shown as it is, and only opening the file fails.
    fn file_size(&self, inode: Inode, place: &Place, stored: u64) -> u64 {
        match StoredLen::from_stored(stored) {
            Ok(StoredLen::Exact(len)) => len,
            Ok(StoredLen::InBlock(_)) => match self.open.find(inode) {
                Some(file) => file.len(),
                None => crate::fs::ops::open_files::table::length_in_last_block(place, stored)
                    .unwrap_or(stored),
            },
            Err(_) => stored,
        }
    }

    /// What stat says of `place`, and the generation of its inode number. A rewrap, which moves a
    /// modification time for a moment, must not be caught at that: the kernel would keep what it is
    /// told.
    fn stat(&self, place: &Place) -> rustix::io::Result<(Stat, u32)> {
        let quiet = self.rewraps.quiet();
        let (stat, generation) = self.places.stat(place)?;
        if quiet.is_some() && self.rewraps.quiet() == quiet {
            return Ok((stat, generation));
        }
        let number = self.places.number(stat.st_ino);
        match self.open.while_closed(number, || self.places.stat(place)) {
            Ok(found) => found,
            Err(file) => Ok((file.stat()?, generation)),
        }
    }

    /// Names the file in an error. A sync that failed in the midst of the work is noted as any other
    /// that failed.
    fn in_file<T>(&self, inode: Inode, result: Result<T, FileError>) -> Result<T, FsError> {
        result.map_err(|error| {
            if let Some(file) = self.open.find(inode)
                && let Err(unreported) = file.take_unreported()
            {
                let errno = Errno::from_io_error(&unreported).unwrap_or(Errno::IO);
                file.failed_syncs.note(errno, self.handles.newest());
                self.note_unsound(inode, &file);
            }
            FsError::File { path: self.places.path(&self.nodes, inode), error }
        })
    }

    /// Closes what only saves time.
    fn spare_descriptors(&self) {
        self.places.close_dirs();
        self.open.close_unsynced();
    }

    /// The file's one shared [`OpenFile`], for one more user.
    fn acquire(&self, inode: Inode, for_writing: bool) -> Result<Arc<OpenFile>, FsError> {
        let acquire = || {
            if let Some(file) = self.open.acquire_open(inode, for_writing)? {
                return Ok(file);
            }
            let (place, _held) = self.held_place(inode)?;
            let stat = |fd: BorrowedFd<'_>| self.places.stat_of(inode, &place, fd);
            self.open.acquire(inode, &place, for_writing, stat)
        };
        let acquired = match acquire() {
            Err(FsError::Backing(errno)) if descriptors::are_short(errno) => {
                self.spare_descriptors();
                acquire()
            }
            acquired => acquired,
        };
        acquired.map_err(|error| match error {
            FsError::File { error, .. } => {
                FsError::File { path: self.places.path(&self.nodes, inode), error }
            }
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::VolumeId;
    use crate::keys::KeyRing;
    use crate::store::{Access, NameMode};

    /// The file system of a new vault.
    pub fn new_fs() -> (tempfile::TempDir, Fs) {
        let (dir, ring) = (tempfile::tempdir().unwrap(), KeyRing::create(VolumeId::random()));
        Vault::create(dir.path(), &ring, NameMode::Plain).unwrap();
        let vault = Vault::open(dir.path(), ring, Access::ReadWrite).unwrap();
        (dir, Fs::new(vault).unwrap())
    }
}
