//! Visiting every file of the vault, on all processors.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::FsError;
use super::place::Place;
use crate::store::OWN_DIR;

/// A file that the walk came by.
#[derive(Debug)]
pub struct Visited<'a> {
    /// Where it lies.
    pub place: &'a Place,
    /// What stat says of it.
    pub stat: &'a Stat,
    /// Its stored path, from the vault's directory.
    pub path: &'a Path,
}

/// Directories still to be read, and how many are being read now.
struct Work {
    queue: Mutex<Queue>,
    changed: Condvar,
}

struct Queue {
    /// By path rather than by descriptor: there may be more than a process may have open.
    waiting: Vec<PathBuf>,
    busy: usize,
    stopped: bool,
}

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
            let place = Place::new(dir, start.file_name().unwrap_or_default());
            file(&Visited { place: &place, stat: &stat, path: start });
        }
        FileType::Directory => {
            let queue = Queue { waiting: vec![start.to_path_buf()], busy: 0, stopped: false };
            let work = Work { queue: Mutex::new(queue), changed: Condvar::new() };
            let threads = std::thread::available_parallelism().map_or(1, usize::from);
            std::thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        while let Some(dir) = work.next() {
                            match visit(root, &dir, &work, file) {
                                Ok(true) => {}
                                Ok(false) => work.stop(),
                                Err(error) => failed(&dir, error),
                            }
                            work.done();
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
    /// The next directory; `None` when there is none left and none can come any more.
    fn next(&self) -> Option<PathBuf> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopped {
                return None;
            }
            if let Some(dir) = queue.waiting.pop() {
                queue.busy += 1;
                return Some(dir);
            }
            if queue.busy == 0 {
                return None;
            }
            self.changed.wait(&mut queue);
        }
    }

    fn add(&self, dir: PathBuf) {
        self.queue.lock().waiting.push(dir);
        self.changed.notify_one();
    }

    fn stop(&self) {
        self.queue.lock().stopped = true;
    }

    fn done(&self) {
        self.queue.lock().busy -= 1;
        self.changed.notify_all();
    }
}

fn visit(
    root: BorrowedFd<'_>,
    path: &Path,
    work: &Work,
    file: &(dyn Fn(&Visited<'_>) -> bool + Sync),
) -> Result<bool, FsError> {
    let at_root = path == Path::new(".");
    let dir = match open_dir(root, path) {
        Err(FsError::Backing(rustix::io::Errno::NOENT)) => return Ok(true),
        dir => Arc::new(dir?),
    };
    for entry in Dir::read_from(dir.as_fd())? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name == "." || name == ".." || (at_root && name == OWN_DIR) {
            continue;
        }
        let child = if at_root { PathBuf::from(name) } else { path.join(name) };
        match entry.file_type() {
            FileType::Directory => work.add(child),
            FileType::RegularFile | FileType::Unknown => {
                let place = Place::new(Arc::clone(&dir), name);
                let Ok(stat) = place.stat() else { continue };
                match FileType::from_raw_mode(stat.st_mode) {
                    FileType::RegularFile
                        if !file(&Visited { place: &place, stat: &stat, path: &child }) =>
                    {
                        return Ok(false);
                    }
                    FileType::Directory => work.add(child),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(true)
}

/// Opens the directory at `path` below `root`; the root itself for an empty path.
pub fn open_dir(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, FsError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    Ok(rustix::fs::openat(root, path, flags, Mode::empty())?)
}
