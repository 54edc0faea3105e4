//! What a directory holds, in a form that two of them can be compared by; and trees to work on.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, getxattr, setxattr, utimensat};
use sha2::{Digest, Sha256};

use crate::common::{pattern, random_bytes, rng};

/// All of a file that a backup must bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: char,
    pub mode: u32,
    pub size: u64,
    /// Seconds and nanoseconds; those of directories change with every entry and are left out.
    pub mtime: Option<(i64, i64)>,
    pub links: u64,
    /// SHA-256 of the content, or a symlink's target.
    pub content: Vec<u8>,
    pub attribute: Option<Vec<u8>>,
}

/// Everything below a directory, by relative path.
pub fn listing(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut all = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        let entries = fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        for path in entries.map(|entry| entry.unwrap().path()) {
            let entry = describe(&path);
            if entry.kind == 'd' {
                open.push(path.clone());
            }
            all.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
        }
    }
    all
}

fn describe(path: &Path) -> Entry {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let (kind, content) = if meta.is_dir() {
        ('d', Vec::new())
    } else if meta.is_symlink() {
        ('l', fs::read_link(path).unwrap().into_os_string().into_encoded_bytes())
    } else if meta.is_file() {
        let bytes = fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(bytes.len() as u64, meta.len(), "{}", path.display());
        ('f', Sha256::digest(&bytes).to_vec())
    } else {
        ('?', Vec::new())
    };
    let plain = kind == 'f' || kind == '?';
    Entry {
        kind,
        mode: if kind == 'l' { 0 } else { meta.mode() & 0o7777 },
        size: if kind == 'd' { 0 } else { meta.len() },
        mtime: (kind != 'd').then(|| (meta.mtime(), meta.mtime_nsec())),
        links: if plain { meta.nlink() } else { 0 },
        content,
        attribute: if plain { attribute(path) } else { None },
    }
}

fn attribute(path: &Path) -> Option<Vec<u8>> {
    let mut room = [0; 4096];
    getxattr(path, "user.note", &mut room[..]).ok().map(|length| room[..length].to_vec())
}

/// Fails and names the first entries that differ.
#[track_caller]
pub fn assert_same_tree(
    found: &BTreeMap<PathBuf, Entry>,
    expected: &BTreeMap<PathBuf, Entry>,
    what: &str,
) {
    let paths = expected.keys().chain(found.keys());
    let mut different: Vec<_> =
        paths.filter(|path| expected.get(*path) != found.get(*path)).collect();
    different.dedup();
    different.truncate(5);
    let show: Vec<_> =
        different.iter().map(|path| (path, expected.get(*path), found.get(*path))).collect();
    assert!(show.is_empty(), "{what}: (path, expected, found): {show:#?}");
}

/// A tree with all that a program of archives must keep: sizes around every boundary, holes, modes,
/// times to the nanosecond, symbolic and hard links, attributes, odd names, empty directories.
pub fn make_tree(root: &Path, seed: u64, files: u32) {
    let mut random = rng(seed);
    let mut dirs = vec![root.to_owned()];
    for number in 0..files / 12 {
        let parent = &dirs[random.random_range(0..dirs.len())];
        let dir = parent.join(format!("dir {number}"));
        fs::create_dir(&dir).unwrap();
        dirs.push(dir);
    }
    let lengths = [0, 1, 100, 3807, 3808, 3809, 4064, 4096, 7871, 7872, 7873, 20_000, 70_000];
    for number in 0..files {
        let path = dirs[random.random_range(0..dirs.len())].join(format!("file-{number}.ü"));
        let length = lengths[random.random_range(0..lengths.len())];
        if number % 2 == 0 {
            fs::write(&path, random_bytes(u64::from(number), length)).unwrap();
        } else {
            fs::write(&path, pattern(u64::from(number), length)).unwrap();
        }
        // Of a second that is long past: programs take times of one second for equal.
        let set_time = |path: &Path| {
            let (tv_sec, tv_nsec) =
                (1_000_000_000 + i64::from(number), 123_456_000 + i64::from(number));
            let time = Timespec { tv_sec, tv_nsec };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        };
        match number % 10 {
            0 => {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_len(length as u64 + 300_000).unwrap();
            }
            1 => {
                let note = format!("note {number}");
                setxattr(&path, "user.note", note.as_bytes(), XattrFlags::empty()).unwrap();
            }
            2 => {
                let dir = &dirs[random.random_range(0..dirs.len())];
                fs::hard_link(&path, dir.join(format!("hard-{number}"))).unwrap();
            }
            3 => {
                let link = path.with_file_name(format!("soft-{number}"));
                symlink(format!("file-{number}.ü"), &link).unwrap();
                set_time(&link);
            }
            _ => {}
        }
        let mode = [0o644, 0o600, 0o755, 0o444][number as usize % 4];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        set_time(&path);
    }
}
