//! Random changes of a vault and of all that belongs to it, one at a time. What is then read is what
//! was written, or an error.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use atrest::format::VaultId;
use atrest::fs::{Attr, Fs, FsError, Inode, OpenMode, Subject};
use atrest::keys::{KeyFile, KeyRing, NoPassphrase};
use atrest::store::{Access, CheckpointFile, Evidence, FileError, Vault as Store, VaultError};
use atrest::trail::{self, Filter};
use rand::{Rng, RngExt};

use crate::common::{Backing, Campaign, Scratch, Vault, pattern, rng};

const FILES: [(&str, usize); 7] = [
    ("empty", 0),
    ("byte", 1),
    ("one block", 3808),
    ("blocks", 20_000),
    ("more blocks", 20_000),
    ("sparse", 60_000),
    ("dir/below", 9_000),
];
/// A tampered vault is opened and read in full within this, however busy the machine is.
const LONGEST: Duration = Duration::from_secs(20);

fn content(number: usize) -> Vec<u8> {
    let (name, len) = FILES[number];
    let mut content = pattern(1000 * number as u64, len);
    if name == "sparse" {
        content[10_000..50_000].fill(0);
    }
    content
}

/// What comes of a tampering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// The key file or the vault is not opened, or only with `--accept-rollback`.
    Refused,
    /// A file is not read, and `verify` names it.
    Found,
    /// `trail verify` says so.
    TrailFound,
    /// A whole file is gone, empty, or at another's name: which no key can tell.
    Moved,
    /// All reads as it was, to the last byte.
    Harmless,
}

/// What is done to one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Bit,
    Bytes,
    Zeros,
    Cut,
    Empty,
    Extend,
    SwapBlocks,
    ForeignBlock,
    ForeignHeader,
    ForeignFile,
    Remove,
    Rename,
    Swap,
    Symlink,
    Directory,
    Pipe,
}

const KINDS: [Kind; 16] = {
    use Kind::*;
    [
        Bit,
        Bytes,
        Zeros,
        Cut,
        Empty,
        Extend,
        SwapBlocks,
        ForeignBlock,
        ForeignHeader,
        ForeignFile,
        Remove,
        Rename,
        Swap,
        Symlink,
        Directory,
        Pipe,
    ]
};

impl Kind {
    /// Whether it acts on a whole file with a content of its own.
    fn is_of_names(self) -> bool {
        !matches!(
            self,
            Self::Bit
                | Self::Bytes
                | Self::Zeros
                | Self::Cut
                | Self::Extend
                | Self::SwapBlocks
                | Self::ForeignBlock
                | Self::ForeignHeader
        )
    }
}

/// All that belongs to a vault, and how to put it back.
struct Ground {
    vault: Vault,
    id: VaultId,
    trail: PathBuf,
    /// Mode and bytes by path.
    files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
    lines: Vec<String>,
}

impl Ground {
    fn new() -> Self {
        let vault = Vault::init_in(Scratch::on(Backing::Tmpfs));
        for part in 0..2 {
            let mount = vault.mount(&[]);
            if part == 0 {
                fs::create_dir(mount.join("dir")).unwrap();
            }
            for number in (0..FILES.len()).filter(|number| number % 2 == part) {
                let (path, content) = (mount.join(FILES[number].0), content(number));
                if FILES[number].0 == "sparse" {
                    use std::os::unix::fs::FileExt;
                    let file = fs::File::create(path).unwrap();
                    file.write_all_at(&content[..10_000], 0).unwrap();
                    file.write_all_at(&content[50_000..], 50_000).unwrap();
                } else {
                    fs::write(path, content).unwrap();
                }
            }
            mount.unmount();
            vault.run(&["key", "rotate"]).ok();
        }
        let id = Store::describe(&vault.path()).unwrap().vault;
        let state = vault.scratch().join("home/state/atrest");
        let trail = state.join(id.to_string());
        let mut ground = Self { vault, id, trail, files: BTreeMap::new(), lines: Vec::new() };
        let mut files = BTreeMap::new();
        for root in [ground.vault.path(), state, ground.vault.key_file()] {
            collect(&root, &mut files);
        }
        ground.files = files;
        ground.lines = ground.query().unwrap();
        assert!(ground.lines.len() > 10 && ground.files.len() > 12, "{:?}", ground.files.keys());
        ground
    }

    fn query(&self) -> Option<Vec<String>> {
        let mut lines = Vec::new();
        trail::query(&self.trail, &Filter::default(), &mut |text, _| {
            lines.push(text.to_owned());
            true
        })
        .ok()
        .map(|()| lines)
    }

    /// As it was, in the same directories.
    fn restore(&self) {
        for root in [self.vault.path(), self.vault.scratch().join("home/state/atrest")] {
            clear(&root, &|path| self.files.contains_key(path), &|dir| {
                self.files.keys().any(|path| path.starts_with(dir))
            });
        }
        for (path, (mode, bytes)) in &self.files {
            let is_same = fs::symlink_metadata(path).is_ok_and(|found| found.is_file())
                && fs::read(path).is_ok_and(|found| found == *bytes);
            if !is_same {
                match fs::symlink_metadata(path) {
                    Ok(found) if found.is_dir() => fs::remove_dir_all(path).unwrap(),
                    Ok(_) => fs::remove_file(path).unwrap(),
                    Err(_) => {}
                }
                fs::write(path, bytes).unwrap();
            }
            fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
        }
    }

    /// Changes one file; says which and how. `None` where the change comes to nothing.
    fn tamper(&self, random: &mut impl Rng) -> (PathBuf, Kind) {
        let paths: Vec<_> = self.files.keys().collect();
        loop {
            let path = paths[random.random_range(0..paths.len())];
            let other = paths[random.random_range(0..paths.len())];
            let kind = KINDS[random.random_range(0..KINDS.len())];
            if self.apply(path, other, kind, random).is_some() {
                return (path.clone(), kind);
            }
        }
    }

    fn apply(&self, path: &Path, other: &Path, kind: Kind, random: &mut impl Rng) -> Option<()> {
        let (old, foreign) = (&self.files[path].1, &self.files[other].1);
        let mut new = old.clone();
        let mut range = |len: usize, most: usize| {
            let at = random.random_range(0..len);
            at..(at + random.random_range(1..=most)).min(len)
        };
        match kind {
            _ if kind != Kind::Extend && !kind.is_of_names() && old.is_empty() => return None,
            Kind::Bit => {
                let at = range(old.len(), 1).start;
                new[at] ^= 1 << random.random_range(0..8);
            }
            Kind::Bytes => {
                let range = range(old.len(), 64);
                random.fill_bytes(&mut new[range]);
            }
            Kind::Zeros => {
                // Whole blocks in half of the cases.
                let range = range(old.len(), 5000);
                match random.random_range(0..2) {
                    0 => new[range].fill(0),
                    _ => {
                        let first = range.start / 4096 * 4096;
                        let end = old.len().min(first + 4096);
                        new[first..end].fill(0);
                    }
                }
            }
            Kind::Cut => new.truncate(random.random_range(1..=old.len())),
            Kind::Empty => new.clear(),
            Kind::Extend => {
                let add = random.random_range(1..9000);
                new.resize(old.len() + add, 0);
                if random.random_range(0..2) == 0 {
                    random.fill_bytes(&mut new[old.len()..]);
                }
            }
            Kind::SwapBlocks | Kind::ForeignBlock => {
                let source = if kind == Kind::ForeignBlock { foreign } else { old };
                let (to, from) = (old.len() / 4096, source.len() / 4096);
                if to == 0 || from == 0 {
                    return None;
                }
                let (to, from) = (random.random_range(0..to), random.random_range(0..from));
                let (to, from) = (4096 * to..4096 * to + 4096, 4096 * from..4096 * from + 4096);
                new[to.clone()].copy_from_slice(&source[from.clone()]);
                if kind == Kind::SwapBlocks {
                    new[from].copy_from_slice(&old[to]);
                }
            }
            Kind::ForeignHeader => {
                let len = 256.min(old.len()).min(foreign.len());
                new[..len].copy_from_slice(&foreign[..len]);
            }
            Kind::ForeignFile => new.clone_from(foreign),
            Kind::Remove => fs::remove_file(path).ok()?,
            Kind::Rename if path != other => fs::rename(path, other).ok()?,
            Kind::Swap if path != other => {
                let aside = self.vault.scratch().join("aside");
                fs::rename(path, &aside).unwrap();
                fs::rename(other, path).unwrap();
                fs::rename(&aside, other).unwrap();
            }
            Kind::Rename | Kind::Swap => return None,
            Kind::Symlink => {
                fs::remove_file(path).unwrap();
                symlink(other, path).unwrap();
            }
            Kind::Directory => {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }
            Kind::Pipe => {
                fs::remove_file(path).unwrap();
                let mode = rustix::fs::Mode::from_raw_mode(0o600);
                rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)
                    .unwrap();
            }
        }
        if new != *old {
            fs::write(path, new).unwrap();
        } else if !kind.is_of_names() || matches!(kind, Kind::Empty | Kind::ForeignFile) {
            return None;
        }
        Some(())
    }

    /// Opens all and reads all.
    fn judge(&self, kind: Kind) -> Outcome {
        let Ok(keys) = KeyFile::open(&self.vault.key_file(), &self.id, &NoPassphrase) else {
            return Outcome::Refused;
        };
        let trail_found = self.trail_found(&keys.ring);
        let evidence = |accept_rollback| Evidence {
            place: Some(self.vault.scratch().join("home/state/atrest")),
            machine: atrest::sys::machine_id(),
            key_file: keys.mark().clone(),
            is_change: false,
            accept_rollback,
            own_trail: false,
        };
        let open = |accept| {
            let ring = keys.ring.clone();
            Store::open_fresh(&self.vault.path(), ring, Access::ReadOnly, &evidence(accept))
        };
        let (store, refused) = match open(false) {
            Ok(store) => (store, false),
            Err(VaultError::SetBack(_) | VaultError::Unproven(_)) => match open(true) {
                Ok(store) => (store, true),
                Err(error) => panic!("with what was put back accepted: {error}"),
            },
            Err(_) => return Outcome::Refused,
        };
        let read = self.read_all(Fs::new(store).unwrap(), kind);
        match (refused, read, trail_found) {
            (true, ..) => Outcome::Refused,
            (_, Outcome::Harmless, true) => Outcome::TrailFound,
            (_, read, _) => read,
        }
    }

    fn trail_found(&self, ring: &KeyRing) -> bool {
        let (dir, keys) = (self.vault.path(), ring.trail_keys().unwrap());
        let Ok(seal) = CheckpointFile::of(&dir, Access::ReadOnly) else { return true };
        let mounts = Store::mounts(&dir, ring).ok();
        let report = trail::verify(&self.trail, &keys, &seal, None, mounts.as_ref(), &[]);
        let is_whole = report.is_ok_and(|report| report.findings.is_empty());
        let lines = self.query();
        if is_whole {
            assert!(lines.as_ref() == Some(&self.lines), "a trail with other lines is sound");
        }
        !is_whole
    }

    fn read_all(&self, fs: Fs, kind: Kind) -> Outcome {
        let mut outcome = Outcome::Harmless;
        let damaged = fs.verify(Path::new(""), &|_| true).unwrap().damaged;
        for (number, (name, _)) in FILES.iter().enumerate() {
            match read(&fs, name) {
                Ok(Some(found)) if found == content(number) => {}
                Ok(found) => {
                    let found = found.unwrap_or_default();
                    let is_known = (0..FILES.len()).any(|other| found == content(other));
                    assert!(
                        kind.is_of_names() && is_known,
                        "{name} has {} bytes, not {}",
                        found.len(),
                        FILES[number].1
                    );
                    outcome = outcome.min(Outcome::Moved);
                }
                Err(FsError::File { error: FileError::Integrity(_), .. }) => {
                    assert!(
                        damaged.iter().any(|damage| damage.path == Path::new(name)),
                        "verify does not name {name}: {damaged:?}"
                    );
                    outcome = Outcome::Found;
                }
                Err(error) => {
                    assert!(kind.is_of_names(), "{name}: {error}");
                    outcome = outcome.min(Outcome::Moved);
                }
            }
        }
        if !damaged.is_empty() {
            outcome = Outcome::Found;
        }
        outcome
    }
}

fn collect(path: &Path, files: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| collect(&entry.unwrap().path(), files));
    } else {
        let mode = fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        files.insert(path.to_owned(), (mode, fs::read(path).unwrap()));
    }
}

/// Removes what is not `known` below a directory.
fn clear(dir: &Path, known: &dyn Fn(&Path) -> bool, has_known: &dyn Fn(&Path) -> bool) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        match entry.file_type().unwrap().is_dir() {
            true if known(&path) || !has_known(&path) => fs::remove_dir_all(path).unwrap(),
            true => clear(&path, known, has_known),
            false if known(&path) => {}
            false => fs::remove_file(path).unwrap(),
        }
    }
}

/// All of a file, as a program gets it; `None` of what is no file any more.
fn read(fs: &Fs, path: &str) -> Result<Option<Vec<u8>>, FsError> {
    let caller = Subject::process(0, 0, 1);
    let mut found = None;
    for name in path.split('/') {
        let parent = found.map_or(Inode::ROOT, |attr: Attr| attr.inode);
        found = Some(fs.lookup(parent, OsStr::new(name))?.attr);
    }
    let Some(attr) = found.filter(|attr| attr.kind == rustix::fs::FileType::RegularFile) else {
        return Ok(None);
    };
    fs.open(attr.inode, OpenMode::READ, &caller)?;
    let read = fs.read(attr.inode, 0, 1 << 20, <[u8]>::to_vec);
    fs.release(attr.inode)?;
    read.map(Some)
}

#[test]
fn what_is_read_of_a_vault_that_was_tampered_with_is_what_was_written() {
    let ground = Ground::new();
    assert_eq!(ground.judge(Kind::Bit), Outcome::Harmless);
    let mut counts: BTreeMap<(Kind, Outcome), u32> = BTreeMap::new();
    for seed in 0..Campaign::pick(2_000, 100_000) {
        ground.restore();
        let (path, kind) = ground.tamper(&mut rng(seed));
        let began = Instant::now();
        let judged = catch_unwind(AssertUnwindSafe(|| ground.judge(kind)));
        let outcome = judged.unwrap_or_else(|_| panic!("seed {seed}: {kind:?} of {path:?}"));
        assert!(began.elapsed() < LONGEST, "seed {seed}: {kind:?} of {path:?} takes too long");
        *counts.entry((kind, outcome)).or_default() += 1;
    }
    ground.restore();
    assert_eq!(ground.judge(Kind::Bit), Outcome::Harmless, "what was put back is not what was");
    for ((kind, outcome), count) in &counts {
        println!("{kind:?}: {outcome:?} {count}");
    }
}
