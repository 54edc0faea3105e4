//! Visiting every file of the vault, on all processors.
//!
//! Directories are opened from the one above, not by path, which the kernel takes no more than 4095
//! bytes of, and nothing recurses: a tree may be as deep as it likes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use rustix::io::Errno;

use crate::fs::FsError;
use crate::fs::descriptors::is_outside_reserve;
use crate::fs::namespace::at_path::AtPath;
use crate::fs::namespace::resolver::is_kept;
use crate::store::METADATA_DIR;
use crate::sys;

/// A file that the walk visits. Nothing is known of it but that it is a regular file.
#[derive(Debug)]
pub struct Visited<'a> {
    dir: &'a Arc<OwnedFd>,
    folder: &'a Folder,
    name: &'a OsStr,
}

impl Visited<'_> {
    /// Where it lies.
    pub fn at_path(&self) -> AtPath {
        AtPath::new(Arc::clone(self.dir), self.name)
    }

    /// Its stored path, from the vault's directory. It may be long: not for every file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }
}

/// A directory that the walk visits, in the one above.
#[derive(Debug)]
struct Folder {
    id: u64,
    /// `None` for the one where the walk starts.
    above: Option<Arc<Folder>>,
    /// Its stored name; the path of the one where the walk starts, empty for the vault's own.
    name: Box<OsStr>,
}

impl Folder {
    fn is_root(&self) -> bool {
        self.above.is_none() && self.name.is_empty()
    }

    /// The stored path.
    fn path(&self) -> PathBuf {
        let mut names = Vec::new();
        let mut at = self;
        loop {
            names.push(&*at.name);
            match &at.above {
                Some(above) => at = above,
                None => return names.into_iter().rev().collect(),
            }
        }
    }
}

impl Drop for Folder {
    /// One after the other: each would drop the one above from within its own drop.
    fn drop(&mut self) {
        let mut above = self.above.take();
        while let Some(mut folder) = above.and_then(Arc::into_inner) {
            above = folder.above.take();
        }
    }
}

/// What is still to be done, and how many threads are at something now.
struct Work {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// More batches than this are not kept waiting: each keeps a descriptor open.
    max_batches: usize,
    /// Where the walk starts.
    start: Arc<OwnedFd>,
    /// Directories lately opened, by the id of their folder.
    opened: Mutex<HashMap<u64, Arc<OwnedFd>>>,
    last_id: AtomicU64,
}

struct Queue {
    /// Files of directories that were read.
    batches: Vec<Batch>,
    /// Without descriptors: there may be more than a process may have open.
    dirs: Vec<Arc<Folder>>,
    busy: usize,
    stopped: bool,
}

enum Task {
    Files(Batch),
    Dir(Arc<Folder>),
}

/// Files of one directory, so that several threads can share a large one.
struct Batch {
    dir: Arc<OwnedFd>,
    folder: Arc<Folder>,
    /// Their names, each with a NUL behind it.
    names: Vec<u8>,
}

/// Directories that are kept open at most.
const MAX_OPENED: usize = 160;

/// Bytes of names in a batch, about: some hundred files.
const BATCH: usize = 4096;

/// Calls `file` for every regular file at or below `start` in the vault at `root`, and `failed`
/// for every directory that can't be read. Names that go away meanwhile are passed over. The walk
/// ends early when `file` answers `false`.
///
/// # Errors
/// [`FsError::Backing`] where `start` itself can't be opened.
pub fn walk(
    root: BorrowedFd<'_>,
    start: &Path,
    file: &(dyn Fn(&Visited<'_>) -> bool + Sync),
    failed: &(dyn Fn(&Path, FsError) + Sync),
) -> Result<(), FsError> {
    let name = start.file_name().unwrap_or_default();
    let above = start.parent().unwrap_or(Path::new(""));
    let (dir, kind) = if name.is_empty() {
        (open_dir(root, Path::new(""))?, FileType::Directory)
    } else {
        let dir = open_dir(root, above)?;
        let stat = rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
        (dir, FileType::from_raw_mode(stat.st_mode))
    };
    let folder = |path: &Path| Folder { id: 0, above: None, name: path.as_os_str().into() };
    match kind {
        FileType::RegularFile => {
            file(&Visited { dir: &Arc::new(dir), folder: &folder(above), name });
        }
        FileType::Directory => {
            let dir = if name.is_empty() { dir } else { open_below(dir.as_fd(), name)? };
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let work = Work::starting_at(dir, folder(start), 4 * threads);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        while let Some(task) = work.next() {
                            let go_on = match task {
                                Task::Files(batch) => batch.visit(file),
                                Task::Dir(folder) => {
                                    visit(&folder, &work, file).unwrap_or_else(|error| {
                                        failed(&folder.path(), error);
                                        true
                                    })
                                }
                            };
                            work.done(go_on);
                        }
                    });
                }
            });
        }
        _ => {}
    }
    Ok(())
}

impl Work {
    fn starting_at(start: OwnedFd, folder: Folder, max_batches: usize) -> Self {
        let dirs = vec![Arc::new(folder)];
        let queue = Queue { batches: Vec::new(), dirs, busy: 0, stopped: false };
        Self {
            queue: Mutex::new(queue),
            changed: Condvar::new(),
            max_batches,
            start: Arc::new(start),
            opened: Mutex::default(),
            last_id: AtomicU64::new(0),
        }
    }

    /// Opens a directory to read it, from the nearest one above that is open.
    fn open(&self, folder: &Arc<Folder>) -> Result<Arc<OwnedFd>, FsError> {
        let mut below = Vec::new();
        let mut at = folder;
        let mut dir = loop {
            if let Some(dir) = self.opened.lock().get(&at.id) {
                break Arc::clone(dir);
            }
            let Some(above) = &at.above else { break Arc::clone(&self.start) };
            below.push(at);
            at = above;
        };
        let levels = below.len();
        for (left, folder) in below.into_iter().enumerate().rev() {
            dir = Arc::new(match left {
                0 => open_below(dir.as_fd(), &folder.name)?,
                _ => open_to_pass(dir.as_fd(), &folder.name)?,
            });
            if left > 0 && is_kept(left, levels) {
                self.keep(folder, &dir);
            }
        }
        Ok(dir)
    }

    /// Keeps a directory open for those below it.
    fn keep(&self, folder: &Folder, dir: &Arc<OwnedFd>) {
        if !is_outside_reserve(dir) {
            return;
        }
        let mut opened = self.opened.lock();
        if opened.len() >= MAX_OPENED {
            let mut stays = false;
            opened.retain(|_, _| {
                stays = !stays;
                stays
            });
        }
        opened.insert(folder.id, Arc::clone(dir));
    }

    /// The next task; `None` when none is left and none can be added any more.
    fn next(&self) -> Option<Task> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return None;
            }
            let files = queue.batches.pop().map(Task::Files);
            let task = files.or_else(|| queue.dirs.pop().map(Task::Dir));
            if task.is_some() {
                queue.busy += 1;
                return task;
            }
            if queue.busy == 0 {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }

    fn add(&self, above: &Arc<Folder>, name: &OsStr) {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let folder = Folder { id, above: Some(Arc::clone(above)), name: name.into() };
        self.queue.lock().dirs.push(Arc::new(folder));
        self.changed.notify_one();
    }

    /// Queues files for a free thread; `Err` returns them where enough are queued.
    fn offer(&self, batch: Batch) -> Result<(), Batch> {
        let mut queue = self.queue.lock();
        if queue.batches.len() >= self.max_batches {
            return Err(batch);
        }
        queue.batches.push(batch);
        self.changed.notify_one();
        Ok(())
    }

    fn done(&self, go_on: bool) {
        let mut queue = self.queue.lock();
        queue.busy -= 1;
        queue.stopped |= !go_on;
        self.changed.notify_all();
    }
}

impl Batch {
    fn visit(&self, file: &(dyn Fn(&Visited<'_>) -> bool + Sync)) -> bool {
        let names = self.names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        names
            .map(OsStr::from_bytes)
            .all(|name| file(&Visited { dir: &self.dir, folder: &self.folder, name }))
    }
}

fn visit(
    folder: &Arc<Folder>,
    work: &Work,
    file: &(dyn Fn(&Visited<'_>) -> bool + Sync),
) -> Result<bool, FsError> {
    let dir = match work.open(folder) {
        // Gone or moved, and perhaps something else in its place.
        Err(FsError::Backing(Errno::NOENT | Errno::NOTDIR)) => return Ok(true),
        dir => dir?,
    };
    let batch = || Batch { dir: Arc::clone(&dir), folder: Arc::clone(folder), names: Vec::new() };
    let mut files = batch();
    let mut has_below = false;
    for entry in Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || (folder.is_root() && name == METADATA_DIR) {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => match rustix::fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                Err(_) => continue,
            },
            kind => kind,
        };
        match kind {
            FileType::Directory => {
                if !has_below {
                    work.keep(folder, &dir);
                    has_below = true;
                }
                work.add(folder, name);
            }
            FileType::RegularFile => {
                files.names.extend_from_slice(entry.file_name().to_bytes_with_nul())
            }
            _ => {}
        }
        if files.names.len() >= BATCH
            && let Err(files) = work.offer(std::mem::replace(&mut files, batch()))
            && !files.visit(file)
        {
            return Ok(false);
        }
    }
    Ok(files.visit(file))
}

/// Opens the directory at `path` below `root`, by no symbolic link; the root itself for an empty
/// path.
///
/// # Errors
/// EINVAL for a path that leads upwards, EXDEV for one into another filesystem; what the backing
/// filesystem says.
pub fn open_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, FsError> {
    let is_plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(is_plain) {
        return Err(Errno::INVAL.into());
    }
    Ok(sys::open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)?)
}

/// Opens a directory to read it.
fn open_below(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, FsError> {
    Ok(sys::open_directory_at(dir, name, OFlags::RDONLY)?)
}

/// Opens a directory on the way to one below.
fn open_to_pass(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, FsError> {
    Ok(sys::open_directory_at(dir, name, OFlags::PATH)?)
}
