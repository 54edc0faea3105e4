//! A tree of files and, in memory, what it must hold: random operations are done to both.

mod attributes;
mod content;
mod file;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use self::file::FileModel;
use crate::common::files::{assert_same, read_at};
use crate::common::{random_bytes, rng};

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
}
