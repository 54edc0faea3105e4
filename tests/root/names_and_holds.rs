//! Random changes of names beside descriptors that outlive them, while the kernel forgets: each
//! call is made on the mount and on a bare directory, and must give the same.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::RngExt;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, XattrFlags};

use crate::common::{Campaign, Scratch, Vault, require_root, rng};

/// Where the calls are made: directories, and what is held in them.
struct Side {
    root: PathBuf,
    open: Vec<File>,
    held: Vec<OwnedFd>,
}

#[derive(Clone, Debug)]
enum Step {
    Create(String, usize),
    Symlink(String),
    MakeDir(String),
    Remove(String),
    RemoveDir(String),
    Rename(String, String, RenameFlags),
    Link(String, String),
    Open(String),
    Close(usize),
    Hold(String),
    LetGo(usize),
    Write(usize, usize),
    Truncate(usize, usize),
    Sync(usize),
    StatOpen(usize),
    ChmodOpen(usize, u32),
    XattrOpen(usize, u8),
    StatHeld(usize),
    ChmodHeld(usize, u32),
    XattrHeld(usize, u8),
    ReadHeld(usize),
    WriteHeld(usize, usize),
    LinkHeld(usize, String),
    Stat(String),
    List(usize),
}

const DIRS: usize = 3;
const NAMES: usize = 6;
const HELD: usize = 8;

fn step(rng: &mut impl RngExt) -> Step {
    let mut name = || format!("dir-{}/{}", rng.random_range(0..DIRS), rng.random_range(0..NAMES));
    let (name, other) = (name(), name());
    let (at, size) = (rng.random_range(0..HELD), rng.random_range(0..20_000));
    let mode = [0o600, 0o640, 0o444, 0o755][rng.random_range(0..4)];
    match rng.random_range(0..27) {
        0..=2 => Step::Create(name, size),
        3 => Step::Symlink(name),
        4 => Step::MakeDir(name),
        5 | 6 => Step::Remove(name),
        7 => Step::RemoveDir(name),
        8 => Step::Rename(name, other, RenameFlags::empty()),
        9 => Step::Rename(name, other, RenameFlags::EXCHANGE),
        10 | 11 => Step::Link(name, other),
        12 => Step::Open(name),
        13 => Step::Close(at),
        14 => Step::Hold(name),
        15 => Step::LetGo(at),
        16 => Step::Write(at, size),
        17 => Step::Truncate(at, size),
        18 => Step::Sync(at),
        19 => Step::StatOpen(at),
        20 => Step::ChmodOpen(at, mode),
        21 => Step::XattrOpen(at, size as u8),
        22 => Step::StatHeld(at),
        23 => Step::ChmodHeld(at, mode),
        24 => match size % 4 {
            0 => Step::XattrHeld(at, size as u8),
            1 => Step::ReadHeld(at),
            2 => Step::WriteHeld(at, size),
            _ => Step::LinkHeld(at, name),
        },
        25 => Step::Stat(name),
        _ => Step::List(at % DIRS),
    }
}

fn tell(meta: &fs::Metadata) -> String {
    let len = if meta.is_dir() { 0 } else { meta.len() };
    format!("mode {:o} links {} length {len}", meta.mode(), meta.nlink())
}

fn xattr(path: &Path, value: u8) -> io::Result<String> {
    let mut room = [0; 4];
    let before = rustix::fs::getxattr(path, "user.a", &mut room).map(|len| room[..len].to_vec());
    rustix::fs::setxattr(path, "user.a", &[value], XattrFlags::empty())?;
    Ok(format!("{before:?}"))
}

impl Side {
    fn new(root: &Path) -> Side {
        for dir in 0..DIRS {
            fs::create_dir(root.join(format!("dir-{dir}"))).unwrap();
        }
        Side { root: root.to_owned(), open: Vec::new(), held: Vec::new() }
    }

    fn opened(&self, at: usize) -> io::Result<&File> {
        self.open.get(at).ok_or_else(|| io::Error::other("none"))
    }

    fn held(&self, at: usize) -> io::Result<PathBuf> {
        let held = self.held.get(at).ok_or_else(|| io::Error::other("none"))?;
        Ok(format!("/proc/self/fd/{}", held.as_raw_fd()).into())
    }

    fn take(&mut self, step: &Step) -> io::Result<String> {
        let path = |name: &String| self.root.join(name);
        let done = |()| "done".to_owned();
        let content = |len: usize| crate::common::pattern(len as u64, len);
        match step {
            Step::Create(name, len) => fs::write(path(name), content(*len)).map(done),
            Step::Symlink(name) => symlink("target", path(name)).map(done),
            Step::MakeDir(name) => fs::create_dir(path(name)).map(done),
            Step::Remove(name) => fs::remove_file(path(name)).map(done),
            Step::RemoveDir(name) => fs::remove_dir(path(name)).map(done),
            Step::Rename(from, to, flags) => {
                let renamed = rustix::fs::renameat_with(CWD, path(from), CWD, path(to), *flags);
                Ok(renamed.map(done)?)
            }
            Step::Link(from, to) => fs::hard_link(path(from), path(to)).map(done),
            Step::Open(name) => {
                let flags = libc::O_NOFOLLOW;
                let mut options = OpenOptions::new();
                use std::os::unix::fs::OpenOptionsExt;
                let file = options.read(true).write(true).custom_flags(flags).open(path(name))?;
                self.open.truncate(HELD - 1);
                self.open.insert(0, file);
                Ok("done".into())
            }
            Step::Close(at) => {
                self.opened(*at)?;
                drop(self.open.remove(*at));
                Ok("done".into())
            }
            Step::Hold(name) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let held = rustix::fs::open(path(name), flags, Mode::empty())?;
                self.held.truncate(HELD - 1);
                self.held.insert(0, held);
                Ok("done".into())
            }
            Step::LetGo(at) => {
                self.held(*at)?;
                drop(self.held.remove(*at));
                Ok("done".into())
            }
            Step::Write(at, len) => {
                self.opened(*at)?.write_all_at(&content(*len), *len as u64).map(done)
            }
            Step::Truncate(at, len) => self.opened(*at)?.set_len(*len as u64).map(done),
            Step::Sync(at) => self.opened(*at)?.sync_all().map(done),
            Step::StatOpen(at) => self.opened(*at)?.metadata().map(|meta| tell(&meta)),
            Step::ChmodOpen(at, mode) => {
                self.opened(*at)?.set_permissions(PermissionsExt::from_mode(*mode)).map(done)
            }
            Step::XattrOpen(at, value) => {
                let path = format!("/proc/self/fd/{}", self.opened(*at)?.as_raw_fd());
                xattr(Path::new(&path), *value)
            }
            Step::StatHeld(at) => fs::metadata(self.held(*at)?).map(|meta| tell(&meta)),
            Step::ChmodHeld(at, mode) => {
                fs::set_permissions(self.held(*at)?, PermissionsExt::from_mode(*mode)).map(done)
            }
            Step::XattrHeld(at, value) => xattr(&self.held(*at)?, *value),
            Step::ReadHeld(at) => fs::read(self.held(*at)?).map(|read| {
                let sum =
                    read.iter().fold(0_u64, |sum, &byte| sum * 31 % 1_000_003 + u64::from(byte));
                format!("{} bytes, {sum}", read.len())
            }),
            Step::WriteHeld(at, len) => {
                let file = OpenOptions::new().write(true).open(self.held(*at)?)?;
                file.write_all_at(&content(*len), 0).map(done)
            }
            Step::LinkHeld(at, name) => {
                let flags = AtFlags::SYMLINK_FOLLOW;
                Ok(rustix::fs::linkat(CWD, self.held(*at)?, CWD, path(name), flags).map(done)?)
            }
            Step::Stat(name) => fs::symlink_metadata(path(name)).map(|meta| tell(&meta)),
            Step::List(dir) => {
                let listed = fs::read_dir(self.root.join(format!("dir-{dir}")))?;
                let mut names: Vec<_> = listed.map(|entry| entry.unwrap().file_name()).collect();
                names.sort();
                Ok(format!("{names:?}"))
            }
        }
    }
}

fn same_as_below(seed: u64, options: &[&str]) {
    let (vault, bare) = (Vault::init(), Scratch::new());
    let mount = vault.mount(options);
    let (mut ours, mut below) = (Side::new(mount.path()), Side::new(&bare.make_dir("bare")));
    let mut rng = rng(seed);
    let mut steps = Vec::new();
    for _ in 0..Campaign::pick(3000, 60_000) {
        if rng.random_range(0..100) == 0 {
            fs::write("/proc/sys/vm/drop_caches", "2").expect("drop_caches, which root may write");
        }
        let step = step(&mut rng);
        steps.push(step.clone());
        let told = |result: io::Result<String>| {
            result.unwrap_or_else(|error| format!("errno {:?}", error.raw_os_error()))
        };
        let (found, expected) = (told(ours.take(&step)), told(below.take(&step)));
        let last = || steps[steps.len().saturating_sub(60)..].to_vec();
        assert_eq!(found, expected, "seed {seed}, step {}: {:#?}", steps.len(), last());
    }
    drop((ours, below));
    mount.unmount();
    vault.verify();
}

#[test]
fn with_the_writeback_cache() {
    require_root();
    (1..=Campaign::pick(2, 10)).for_each(|seed| same_as_below(seed, &[]));
}

#[test]
fn without_the_writeback_cache() {
    require_root();
    (11..=Campaign::pick(12, 20)).for_each(|seed| same_as_below(seed, &["--no-writeback"]));
}

/// A file with names in two directories, of which the kernel forgets one directory.
#[test]
fn one_directory_of_two_is_forgotten() {
    require_root();
    let mount = Vault::init().mount(&[]);
    for dir in ["first", "second"] {
        fs::create_dir(mount.join(dir)).unwrap();
    }
    fs::write(mount.join("first/name"), b"as it was").unwrap();
    fs::hard_link(mount.join("first/name"), mount.join("second/name")).unwrap();
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let held = rustix::fs::open(mount.join("second/name"), flags, Mode::empty()).unwrap();
    for _ in 0..3 {
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
    }
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"as it was");
    fs::write(mount.join("second/name"), b"changed").unwrap();
    assert_eq!(fs::read(mount.join("first/name")).unwrap(), b"changed");
    drop(held);
    mount.unmount();
}
