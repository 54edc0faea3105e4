//! What programs did on a mount, what they were told, and so what must be found.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::common::promises::{Change, Promise};

/// The files of one directory and what is promised of each.
pub struct World {
    pub dir: PathBuf,
    pub files: BTreeMap<String, Known>,
    /// Names without content of interest: directories, links.
    names: BTreeMap<String, Presence>,
    /// What each call that failed said, in order.
    pub told: Vec<String>,
}

#[derive(Default)]
pub struct Known {
    promise: Promise,
    presence: Presence,
    /// A call on this file has failed: from then on nothing more is promised than before.
    told: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    There,
    Gone,
    /// A call that was to change it has failed.
    Either,
}

impl World {
    pub fn new(dir: &Path) -> World {
        World {
            dir: dir.to_owned(),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A file that is there with this content, all of it promised.
    pub fn promise(&mut self, name: &str, content: Vec<u8>) {
        let known = Known { promise: Promise::of(content), ..Known::default() };
        self.files.insert(name.to_owned(), known);
    }

    /// Opens for both; a failure promises nothing.
    pub fn open(&mut self, name: &str) -> Option<File> {
        let opened = OpenOptions::new().read(true).write(true).open(self.path(name));
        self.look(name, "open", opened)
    }

    pub fn create(&mut self, name: &str) -> Option<File> {
        let before = self.files.contains_key(name);
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path(name));
        let known = self.files.entry(name.to_owned()).or_default();
        known.promise.begin(Change::Truncate(0));
        if opened.is_err() && !before {
            known.presence = Presence::Either;
        }
        self.change(name, "create", opened)
    }

    pub fn write(&mut self, name: &str, file: &File, offset: u64, bytes: &[u8]) {
        self.begin(name, Change::Write(offset, bytes.to_vec()));
        let written = file.write_all_at(bytes, offset);
        self.change(name, "write", written);
    }

    pub fn truncate(&mut self, name: &str, file: &File, length: u64) {
        self.begin(name, Change::Truncate(length));
        let cut = file.set_len(length);
        self.change(name, "truncate", cut);
    }

    /// The file takes the content of another, which is not certain where a change of that failed.
    pub fn as_copy(&mut self, from: &str, to: &str, act: impl FnOnce(usize) -> io::Result<()>) {
        let (source, told) = (self.files[from].promise.clone(), self.files[from].told);
        if told {
            source.changes().for_each(|change| self.begin(to, change));
            self.files.get_mut(to).unwrap().told = true;
        }
        let bytes = source.now();
        let length = bytes.len();
        self.as_write(to, "copy_file_range", (0, bytes), || act(length));
    }

    /// Any change whose result is as if `bytes` were written at `offset`.
    pub fn as_write(
        &mut self,
        name: &str,
        what: &str,
        (offset, bytes): (u64, Vec<u8>),
        act: impl FnOnce() -> io::Result<()>,
    ) {
        self.begin(name, Change::Write(offset, bytes));
        let done = act();
        self.change(name, what, done);
    }

    /// fsync: what was done so far is promised, unless something of it was said to have failed.
    pub fn sync(&mut self, name: &str, file: &File) {
        let synced = file.sync_all();
        let synced = self.change(name, "fsync", synced).is_some();
        let known = self.files.get_mut(name).unwrap();
        if synced && !known.told {
            known.promise.keep();
        }
    }

    pub fn close(&mut self, name: &str, file: File) {
        let closed = crate::common::files::close(file);
        self.change(name, "close", closed);
    }

    /// Reads the file through the mount; what it reads must be what the file holds or may hold.
    pub fn read(&mut self, name: &str) {
        let read = fs::read(self.path(name));
        if let Some(found) = self.look(name, "read", read) {
            self.check_content(name, &found).unwrap_or_else(|e| panic!("read {name}: {e}"));
        }
    }

    pub fn rename(&mut self, from: &str, to: &str) {
        let done = fs::rename(self.path(from), self.path(to));
        let source = self.files.remove(from).unwrap();
        let content = source.promise.now();
        match done {
            Ok(()) => {
                self.files.insert(to.to_owned(), source);
                let gone = Known { presence: Presence::Gone, ..Known::default() };
                self.files.insert(from.to_owned(), gone);
            }
            Err(error) => {
                self.told.push(format!("rename {from}: {error}"));
                let target = self
                    .files
                    .entry(to.to_owned())
                    .or_insert_with(|| Known { presence: Presence::Either, ..Known::default() });
                target.promise.begin(Change::Replace(content));
                target.told = true;
                let either = Known { presence: Presence::Either, told: true, ..source };
                self.files.insert(from.to_owned(), either);
            }
        }
    }

    pub fn unlink(&mut self, name: &str) {
        let done = fs::remove_file(self.path(name));
        let gone = self.look(name, "unlink", done).is_some();
        let known = self.files.get_mut(name).unwrap();
        known.presence = if gone { Presence::Gone } else { Presence::Either };
    }

    /// Makes a second name of a file's.
    pub fn link(&mut self, name: &str, link: &str) {
        let done = fs::hard_link(self.path(name), self.path(link));
        let made = self.look(name, "link", done).is_some();
        let promise = self.files[name].promise.clone();
        let presence = if made { Presence::There } else { Presence::Either };
        self.files.insert(link.to_owned(), Known { promise, presence, told: false });
    }

    /// Makes a name whose content does not matter.
    pub fn make(&mut self, name: &str, act: impl FnOnce(&Path) -> io::Result<()>) {
        let done = act(&self.path(name));
        let made = self.look(name, "make", done).is_some();
        let presence = if made { Presence::There } else { Presence::Either };
        self.names.insert(name.to_owned(), presence);
    }

    /// A call that changes no content. Whether it succeeded.
    pub fn look<T>(&mut self, name: &str, what: &str, result: io::Result<T>) -> Option<T> {
        result.map_err(|error| self.told.push(format!("{what} {name:.20}: {error}"))).ok()
    }

    /// Whatever was done to content may have failed: umount said so.
    pub fn doubt_all(&mut self, reason: &str) {
        self.told.push(reason.to_owned());
        self.files.values_mut().for_each(|known| known.told = true);
    }

    fn begin(&mut self, name: &str, change: Change) {
        self.files.get_mut(name).unwrap().promise.begin(change);
    }

    fn change<T>(&mut self, name: &str, what: &str, result: io::Result<T>) -> Option<T> {
        self.files.get_mut(name).unwrap().told |= result.is_err();
        self.look(name, what, result)
    }

    fn check_content(&self, name: &str, found: &[u8]) -> Result<(), String> {
        let known = &self.files[name];
        if known.told {
            return known.promise.check(found);
        }
        let now = known.promise.now();
        let differs = (0..found.len().max(now.len())).find(|at| found.get(*at) != now.get(*at));
        match differs {
            None => Ok(()),
            Some(at) => Err(format!(
                "{} bytes, not {}; they differ at {at}, and no call said why",
                found.len(),
                now.len()
            )),
        }
    }

    /// All that is there, checked against what was promised. Each name by its content, or why it
    /// can't be read.
    pub fn find(&self, dir: &Path) -> Result<BTreeMap<String, Vec<u8>>, String> {
        let mut found = BTreeMap::new();
        let mut wrong = Vec::new();
        for (name, known) in &self.files {
            let path = dir.join(name);
            let result = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => match known.presence {
                    Presence::There => Err("is not there".to_owned()),
                    Presence::Gone | Presence::Either => Ok(None),
                },
                Err(error) => Err(format!("stat: {error}")),
                Ok(_) if known.presence == Presence::Gone => Err("is there again".to_owned()),
                Ok(stat) => {
                    fs::read(&path).map_err(|error| format!("read: {error}")).and_then(|content| {
                        if stat.len() != content.len() as u64 {
                            return Err(format!(
                                "stat says {}, {} were read",
                                stat.len(),
                                content.len()
                            ));
                        }
                        self.check_content(name, &content).map(|()| Some(content))
                    })
                }
            };
            match result {
                Ok(Some(content)) => drop(found.insert(name.clone(), content)),
                Ok(None) => {}
                Err(error) => wrong.push(format!("{name:.20}: {error}")),
            }
        }
        for (name, presence) in &self.names {
            let there = fs::symlink_metadata(dir.join(name)).is_ok();
            if *presence != Presence::Either && there != (*presence == Presence::There) {
                wrong.push(format!("{name}: should be {presence:?}"));
            }
        }
        let known = |name: &str| self.files.contains_key(name) || self.names.contains_key(name);
        for entry in fs::read_dir(dir).map_err(|error| format!("readdir: {error}"))? {
            let name = entry.map_err(|error| format!("readdir: {error}"))?.file_name();
            let name = name.to_string_lossy().into_owned();
            if !known(&name) {
                wrong.push(format!("{name}: nobody made it"));
            }
        }
        if wrong.is_empty() { Ok(found) } else { Err(wrong.join("\n")) }
    }
}
