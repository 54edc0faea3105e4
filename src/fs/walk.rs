//! Visiting every file of the vault, on all processors.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::FsError;
use super::place::Place;
use crate::store::OWN_DIR;

/// A file that the walk came by. Nothing was asked of it yet but that it is a regular one.
#[derive(Debug)]
pub struct Visited<'a> {
    dir: &'a Arc<OwnedFd>,
    dir_path: &'a Path,
    name: &'a OsStr,
}

impl Visited<'_> {
    /// Where it lies.
    pub fn place(&self) -> Place {
        Place::new(Arc::clone(self.dir), self.name)
    }

    /// Its stored path, from the vault's directory.
    pub fn path(&self) -> PathBuf {
        child(self.dir_path, self.name)
    }
}

/// What is still to be done, and how many threads are at something now.
struct Work {
    queue: Mutex<Queue>,
    changed: Condvar,
    /// More batches than this are not kept waiting: each keeps a descriptor open.
    most_batches: usize,
}

struct Queue {
    /// Files of directories that were read.
    batches: Vec<Batch>,
    /// By path rather than by descriptor: there may be more than a process may have open.
    dirs: Vec<PathBuf>,
    busy: usize,
    stopped: bool,
}

enum Task {
    Files(Batch),
    Dir(PathBuf),
}

/// Files of one directory, so that several threads can share a large one.
struct Batch {
    dir: Arc<OwnedFd>,
    path: Arc<Path>,
    /// Their names, each with a NUL behind it.
    names: Vec<u8>,
}

/// Bytes of names in a batch, about: some hundred files.
const BATCH: usize = 4096;

/// Calls `file` for every regular file at or below `start` in the vault at `root`, and `failed`
/// for every directory that can't be read. Names that go away meanwhile are passed over. The walk
/// ends early when `file` answers `false`.
///
/// # Errors
/// What the backing filesystem says of `start` itself.
pub fn walk(
    root: BorrowedFd<'_>,
    start: &Path,
    file: &(dyn Fn(&Visited<'_>) -> bool + Sync),
    failed: &(dyn Fn(&Path, FsError) + Sync),
) -> Result<(), FsError> {
    let start = if start.as_os_str().is_empty() { Path::new(".") } else { start };
    let stat = rustix::fs::statat(root, start, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let parent = start.parent().filter(|path| !path.as_os_str().is_empty());
            let dir = Arc::new(open_dir(root, parent.unwrap_or(Path::new(".")))?);
            let dir_path = parent.unwrap_or(Path::new("."));
            let name = start.file_name().unwrap_or_default();
            file(&Visited { dir: &dir, dir_path, name });
        }
        FileType::Directory => {
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            let work = Work::starting_at(start, 4 * threads);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        while let Some(task) = work.next() {
                            let go_on = match task {
                                Task::Files(batch) => batch.visit(file),
                                Task::Dir(path) => {
                                    visit(root, &path, &work, file).unwrap_or_else(|error| {
                                        failed(&path, error);
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
    fn starting_at(start: &Path, most_batches: usize) -> Self {
        let dirs = vec![start.to_path_buf()];
        let queue = Queue { batches: Vec::new(), dirs, busy: 0, stopped: false };
        Self { queue: Mutex::new(queue), changed: Condvar::new(), most_batches }
    }

    /// The next task; `None` when there is none left and none can come any more.
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

    fn add(&self, dir: PathBuf) {
        self.queue.lock().dirs.push(dir);
        self.changed.notify_one();
    }

    /// Leaves files to whoever is free; `Err` gives them back where enough are waiting.
    fn offer(&self, batch: Batch) -> Result<(), Batch> {
        let mut queue = self.queue.lock();
        if queue.batches.len() >= self.most_batches {
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
            .all(|name| file(&Visited { dir: &self.dir, dir_path: &self.path, name }))
    }
}

fn child(dir: &Path, name: &OsStr) -> PathBuf {
    if dir == Path::new(".") { PathBuf::from(name) } else { dir.join(name) }
}

fn visit(
    root: BorrowedFd<'_>,
    path: &Path,
    work: &Work,
    file: &(dyn Fn(&Visited<'_>) -> bool + Sync),
) -> Result<bool, FsError> {
    let at_root = path == Path::new(".");
    let dir = match open_dir(root, path) {
        // Gone or moved, and perhaps something else in its place.
        Err(FsError::Backing(Errno::NOENT | Errno::NOTDIR)) => return Ok(true),
        dir => Arc::new(dir?),
    };
    let path: Arc<Path> = Arc::from(path);
    let batch = || Batch { dir: Arc::clone(&dir), path: Arc::clone(&path), names: Vec::new() };
    let mut files = batch();
    for entry in Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || (at_root && name == OWN_DIR) {
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
            FileType::Directory => work.add(child(&path, name)),
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

/// Opens the directory at `path` below `root`; the root itself for an empty path.
pub fn open_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::openat(root, path, flags, Mode::empty())?)
}
