//! A tree of files and, in memory, what it must hold: random operations are done to both.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, RenameFlags, Timespec, Timestamps, XattrFlags, copy_file_range,
    fallocate, getxattr, renameat_with, setxattr, utimensat,
};

use crate::common::files::{assert_same, read_at};
use crate::common::{Mapping, random_bytes, rng};

/// No file grows past this.
const LONGEST: u64 = 150_000;

/// A subtree that one thread owns.
pub struct TreeModel {
    /// Where it is: the mount point changes with a remount, the name below it does not.
    root: PathBuf,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, Name>,
    files: Vec<FileModel>,
    /// Descriptors that are kept, of files that may have lost their names.
    open: Vec<(usize, File)>,
    random: Xoshiro256PlusPlus,
    steps: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Name {
    File(usize),
    Symlink(String),
}

#[derive(Default)]
struct FileModel {
    content: Vec<u8>,
    mode: u32,
    links: u64,
    note: Option<Vec<u8>>,
    /// What utimensat set, until the next change of the content.
    mtime: Option<(i64, i64)>,
}

impl FileModel {
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset as usize..end].copy_from_slice(bytes);
        self.mtime = None;
    }

    fn resize(&mut self, length: u64) {
        self.content.resize(length as usize, 0);
        self.mtime = None;
    }

    fn zero(&mut self, offset: u64, length: u64) {
        let end = (offset + length).min(self.content.len() as u64) as usize;
        self.content[(offset as usize).min(end)..end].fill(0);
        self.mtime = None;
    }
}

impl TreeModel {
    /// An empty tree in `root`, which is made.
    pub fn new(root: PathBuf, seed: u64) -> TreeModel {
        fs::create_dir(&root).unwrap();
        TreeModel {
            root,
            dirs: BTreeSet::from([PathBuf::new()]),
            names: BTreeMap::new(),
            files: Vec::new(),
            open: Vec::new(),
            random: rng(seed),
            steps: 0,
        }
    }

    /// One random operation.
    pub fn step(&mut self) {
        self.steps += 1;
        match self.random.random_range(0..30) {
            0..4 => self.create(),
            4..7 => self.write(),
            7 => self.append(),
            8 => self.truncate(),
            9 => self.rewrite(),
            10 => self.rename(),
            11 => self.exchange(),
            12 => self.link(),
            13 | 14 => self.unlink(),
            15 => self.mkdir(),
            16 => self.rmdir(),
            17 => self.rename_dir(),
            18 => self.punch(),
            19 => self.allocate(),
            20 => self.copy(),
            21 => self.map(),
            22 => self.chmod(),
            23 => self.note(),
            24 => self.set_mtime(),
            25 => self.sync(),
            26 => self.symlink(),
            27 => self.keep_open(),
            28 => self.close(),
            _ => self.read(),
        }
    }

    /// Compares the whole tree with the model, and each kept descriptor with its file.
    pub fn check(&self, what: &str) {
        let mut found = BTreeMap::new();
        let mut dirs = BTreeSet::from([PathBuf::new()]);
        let mut left = vec![PathBuf::new()];
        while let Some(dir) = left.pop() {
            for entry in fs::read_dir(self.root.join(&dir)).unwrap() {
                let path = dir.join(entry.unwrap().file_name());
                let meta = fs::symlink_metadata(self.root.join(&path)).unwrap();
                if meta.is_dir() {
                    dirs.insert(path.clone());
                    left.push(path);
                } else {
                    found.insert(path, meta);
                }
            }
        }
        assert_eq!(dirs, self.dirs, "{what}: directories");
        let names: Vec<_> = found.keys().collect();
        assert_eq!(names, self.names.keys().collect::<Vec<_>>(), "{what}: names");
        for (path, meta) in &found {
            let full = self.root.join(path);
            let what = format!("{what}: {}", full.display());
            match &self.names[path] {
                Name::Symlink(target) => {
                    assert_eq!(fs::read_link(&full).unwrap(), Path::new(target), "{what}")
                }
                Name::File(id) => self.files[*id].check(&full, meta, &what),
            }
        }
        for (id, file) in &self.open {
            let content = &self.files[*id].content;
            assert_same(
                &read_at(file, 0, content.len() + 100),
                content,
                &format!("{what}: a kept descriptor"),
            );
        }
    }

    /// Follows the tree to where it now is; the descriptors are of the old place and are closed.
    pub fn moved_to(&mut self, root: PathBuf) {
        self.open.clear();
        self.root = root;
    }

    /// Closes what would keep the mount busy.
    pub fn close_all(&mut self) {
        self.open.clear();
    }

    fn a_dir(&mut self) -> PathBuf {
        let at = self.random.random_range(0..self.dirs.len());
        self.dirs.iter().nth(at).unwrap().clone()
    }

    fn a_name(&mut self) -> Option<PathBuf> {
        let at = self.random.random_range(0..self.names.len().max(1));
        self.names.keys().nth(at).cloned()
    }

    fn a_file(&mut self) -> Option<(PathBuf, usize)> {
        let files = self.names.iter().filter_map(|(path, name)| match name {
            Name::File(id) => Some((path, *id)),
            Name::Symlink(_) => None,
        });
        let files: Vec<_> = files.collect();
        let at = self.random.random_range(0..files.len().max(1));
        files.get(at).map(|(path, id)| ((*path).clone(), *id))
    }

    /// A name that nothing has.
    fn a_new_name(&mut self) -> PathBuf {
        loop {
            let path = self.a_dir().join(format!("n{}", self.random.random_range(0..400)));
            if !self.names.contains_key(&path) && !self.dirs.contains(&path) {
                return path;
            }
        }
    }

    /// A descriptor of a random file: a kept one, or a new one.
    fn a_descriptor(&mut self) -> Option<(usize, File)> {
        if !self.open.is_empty() && self.random.random_range(0..3) == 0 {
            let at = self.random.random_range(0..self.open.len());
            let (id, file) = &self.open[at];
            return Some((*id, file.try_clone().unwrap()));
        }
        let (path, id) = self.a_file()?;
        Some((id, OpenOptions::new().read(true).write(true).open(self.root.join(path)).unwrap()))
    }

    fn a_range(&mut self) -> (u64, u64) {
        let offset = self.random.random_range(0..LONGEST / 2);
        let longest = if self.random.random_range(0..4) == 0 { LONGEST / 2 } else { 5000 };
        let length = self.random.random_range(1..longest);
        (offset, length)
    }

    fn some_bytes(&mut self, length: u64) -> Vec<u8> {
        random_bytes(self.random.random_range(0..u64::MAX), length as usize)
    }

    fn create(&mut self) {
        let path = self.a_new_name();
        let length = self.random.random_range(0..6000);
        let bytes = self.some_bytes(length);
        let mut file = File::create_new(self.root.join(&path)).unwrap();
        file.set_permissions(PermissionsExt::from_mode(0o644)).unwrap();
        file.write_all(&bytes).unwrap();
        let model = FileModel { content: bytes, mode: 0o644, links: 1, ..FileModel::default() };
        self.files.push(model);
        self.names.insert(path, Name::File(self.files.len() - 1));
    }

    fn write(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        let bytes = self.some_bytes(length);
        file.write_all_at(&bytes, offset).unwrap();
        self.files[id].put(offset, &bytes);
    }

    fn append(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let length = self.random.random_range(1..5000);
        let bytes = self.some_bytes(length);
        let end = self.files[id].content.len() as u64;
        if end < LONGEST {
            OpenOptions::new()
                .append(true)
                .open(self.root.join(path))
                .unwrap()
                .write_all(&bytes)
                .unwrap();
            self.files[id].put(end, &bytes);
        }
    }

    fn truncate(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let lengths = [0, 1, 3807, 3808, 3809, 4096, 7872, 7873, LONGEST / 3, LONGEST];
        let length = lengths[self.random.random_range(0..lengths.len())];
        file.set_len(length).unwrap();
        self.files[id].resize(length);
    }

    fn rewrite(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let length = self.random.random_range(0..9000);
        let bytes = self.some_bytes(length);
        fs::write(self.root.join(path), &bytes).unwrap();
        self.files[id].resize(0);
        self.files[id].put(0, &bytes);
    }

    fn rename(&mut self) {
        let Some(from) = self.a_name() else { return };
        let replaces = self.random.random_range(0..2) == 0;
        let to = if replaces { self.a_name().unwrap() } else { self.a_new_name() };
        fs::rename(self.root.join(&from), self.root.join(&to)).unwrap();
        // Two names of one file: rename does nothing, says POSIX.
        let (moved, replaced) = (self.names[&from].clone(), self.names.get(&to).cloned());
        if from == to || (matches!(moved, Name::File(_)) && replaced.as_ref() == Some(&moved)) {
            return;
        }
        self.names.remove(&from);
        self.names.insert(to, moved);
        if let Some(Name::File(id)) = replaced {
            self.files[id].links -= 1;
        }
    }

    fn exchange(&mut self) {
        let (Some(one), Some(two)) = (self.a_name(), self.a_name()) else { return };
        renameat_with(CWD, self.root.join(&one), CWD, self.root.join(&two), RenameFlags::EXCHANGE)
            .unwrap();
        let (first, second) = (self.names[&one].clone(), self.names[&two].clone());
        self.names.insert(one, second);
        self.names.insert(two, first);
    }

    fn link(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let new = self.a_new_name();
        fs::hard_link(self.root.join(path), self.root.join(&new)).unwrap();
        self.names.insert(new, Name::File(id));
        self.files[id].links += 1;
    }

    fn unlink(&mut self) {
        let Some(path) = self.a_name() else { return };
        fs::remove_file(self.root.join(&path)).unwrap();
        if let Some(Name::File(id)) = self.names.remove(&path) {
            self.files[id].links -= 1;
        }
    }

    fn mkdir(&mut self) {
        if self.dirs.len() < 30 {
            let path = self.a_new_name();
            fs::create_dir(self.root.join(&path)).unwrap();
            self.dirs.insert(path);
        }
    }

    fn rmdir(&mut self) {
        let dir = self.a_dir();
        let below = |path: &&PathBuf| path.parent() == Some(&dir);
        let is_empty = !self.names.keys().any(|path| below(&path))
            && !self.dirs.iter().any(|path| below(&path));
        let removed = fs::remove_dir(self.root.join(&dir));
        if dir.as_os_str().is_empty() {
            if removed.is_ok() {
                fs::create_dir(&self.root).unwrap();
            }
        } else if is_empty {
            removed.unwrap();
            self.dirs.remove(&dir);
        } else {
            assert_eq!(removed.unwrap_err().raw_os_error(), Some(libc::ENOTEMPTY));
        }
    }

    fn rename_dir(&mut self) {
        let (from, to) = (self.a_dir(), self.a_new_name());
        if from.as_os_str().is_empty() {
            return;
        }
        let renamed = fs::rename(self.root.join(&from), self.root.join(&to));
        if to.starts_with(&from) {
            assert_eq!(renamed.unwrap_err().raw_os_error(), Some(libc::EINVAL));
            return;
        }
        renamed.unwrap();
        let moved = |path: PathBuf| match path.strip_prefix(&from) {
            Ok(rest) if rest.as_os_str().is_empty() => to.clone(),
            Ok(rest) => to.join(rest),
            Err(_) => path,
        };
        self.dirs = std::mem::take(&mut self.dirs).into_iter().map(&moved).collect();
        self.names = std::mem::take(&mut self.names)
            .into_iter()
            .map(|(path, name)| (moved(path), name))
            .collect();
    }

    fn punch(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length)
            .unwrap();
        self.files[id].zero(offset, length);
    }

    fn allocate(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        fallocate(&file, FallocateFlags::empty(), offset, length).unwrap();
        let model = &mut self.files[id];
        model.resize((offset + length).max(model.content.len() as u64));
    }

    fn copy(&mut self) {
        let (Some((from, source)), Some((to, target))) = (self.a_descriptor(), self.a_descriptor())
        else {
            return;
        };
        if from == to {
            return;
        }
        let ((mut at, length), (mut put, _)) = (self.a_range(), self.a_range());
        let (start, goal) = (at, put);
        let mut copied = 0;
        while copied < length {
            match copy_file_range(
                &source,
                Some(&mut at),
                &target,
                Some(&mut put),
                (length - copied) as usize,
            )
            .unwrap()
            {
                0 => break,
                more => copied += more as u64,
            }
        }
        let content = &self.files[from].content;
        let expected = content
            .get(start as usize..)
            .map_or(&[][..], |rest| &rest[..rest.len().min(length as usize)]);
        assert_eq!(copied, expected.len() as u64, "copy_file_range");
        let bytes = expected.to_vec();
        if !bytes.is_empty() {
            self.files[to].put(goal, &bytes);
        }
    }

    fn map(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let length = self.files[id].content.len();
        if length == 0 {
            return;
        }
        let mut mapping = Mapping::shared(&file, length).unwrap();
        let start = self.random.random_range(0..length);
        let bytes = self.some_bytes((length - start).min(5000) as u64);
        mapping.bytes_mut()[start..start + bytes.len()].copy_from_slice(&bytes);
        mapping.sync().unwrap();
        self.files[id].put(start as u64, &bytes);
    }

    fn chmod(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let modes = [0o600, 0o644, 0o755, 0o666, 0o711];
        let mode = modes[self.random.random_range(0..modes.len())];
        fs::set_permissions(self.root.join(path), PermissionsExt::from_mode(mode)).unwrap();
        self.files[id].mode = mode;
    }

    fn note(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let length = self.random.random_range(0..300);
        let bytes = self.some_bytes(length);
        setxattr(self.root.join(path), "user.note", &bytes, XattrFlags::empty()).unwrap();
        self.files[id].note = Some(bytes);
    }

    fn set_mtime(&mut self) {
        let Some((path, id)) = self.a_file() else { return };
        let time = (
            self.random.random_range(0..4_000_000_000),
            self.random.random_range(0..1_000_000_000),
        );
        let spec = Timespec { tv_sec: time.0, tv_nsec: time.1 };
        let times = Timestamps { last_access: spec, last_modification: spec };
        utimensat(CWD, self.root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        self.files[id].mtime = Some(time);
    }

    fn sync(&mut self) {
        let Some((_, file)) = self.a_descriptor() else { return };
        if self.steps.is_multiple_of(2) { file.sync_all() } else { file.sync_data() }.unwrap();
    }

    fn symlink(&mut self) {
        let path = self.a_new_name();
        let target = format!("../somewhere/{}", self.steps);
        symlink(&target, self.root.join(&path)).unwrap();
        self.names.insert(path, Name::Symlink(target));
    }

    fn keep_open(&mut self) {
        if let Some((id, file)) = self.a_descriptor().filter(|_| self.open.len() < 8) {
            self.open.push((id, file));
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let at = self.random.random_range(0..self.open.len());
            self.open.swap_remove(at);
        }
    }

    fn read(&mut self) {
        let Some((id, file)) = self.a_descriptor() else { return };
        let (offset, length) = self.a_range();
        let content = &self.files[id].content;
        let expected = content
            .get(offset as usize..)
            .map_or(&[][..], |rest| &rest[..rest.len().min(length as usize)]);
        assert_same(
            &read_at(&file, offset, length as usize),
            expected,
            &format!("step {}: read", self.steps),
        );
    }
}

impl FileModel {
    fn check(&self, path: &Path, meta: &fs::Metadata, what: &str) {
        assert_eq!(meta.len(), self.content.len() as u64, "{what}: length");
        assert_same(&fs::read(path).unwrap(), &self.content, what);
        assert_eq!(meta.mode() & 0o7777, self.mode, "{what}: mode");
        assert_eq!(meta.nlink(), self.links, "{what}: links");
        if let Some(mtime) = self.mtime {
            assert_eq!((meta.mtime(), meta.mtime_nsec()), mtime, "{what}: mtime");
        }
        let mut room = [0; 4096];
        let note =
            getxattr(path, "user.note", &mut room[..]).ok().map(|length| room[..length].to_vec());
        assert_eq!(note, self.note, "{what}: attribute");
    }
}
