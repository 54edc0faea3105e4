//! Somebody changes what belongs to a vault between any two system calls of its daemon: of each
//! operation of the mount, of each request to the daemon, of its start and of its end.

mod control;
mod mounting;
mod operations;
mod parts;
mod world;

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};

use crate::common::{pattern, run};

/// The group of those who may write the vault's directory.
const KEEPERS: u32 = 41_078;

const CONTENT: usize = 10_000;

fn opening() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    options
}

fn node(path: &Path, kind: FileType) -> io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), 0)?)
}

/// directory»: that is the one in which the target lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    LinkToSecret,
    LinkToProgram,
    LinkToDirectory,
    HardLinkOfSecret,
    HardLinkOfProgram,
    Pipe,
    Device,
    Directory,
    Noise,
    Nothing,
    MovedAway,
    OthersFile,
    OthersDirectory,
    OthersHeader,
    BlocksSwapped,
    Grown,
    Cut,
    LinkInPlaceOfDirectory,
    OthersInPlaceOfDirectory,
    NothingInPlaceOfDirectory,
    FileInPlaceOfDirectory,
}

impl Change {
    const ALL: [Change; 21] = [
        Change::LinkToSecret,
        Change::LinkToProgram,
        Change::LinkToDirectory,
        Change::HardLinkOfSecret,
        Change::HardLinkOfProgram,
        Change::Pipe,
        Change::Device,
        Change::Directory,
        Change::Noise,
        Change::Nothing,
        Change::MovedAway,
        Change::OthersFile,
        Change::OthersDirectory,
        Change::OthersHeader,
        Change::BlocksSwapped,
        Change::Grown,
        Change::Cut,
        Change::LinkInPlaceOfDirectory,
        Change::OthersInPlaceOfDirectory,
        Change::NothingInPlaceOfDirectory,
        Change::FileInPlaceOfDirectory,
    ];

    fn make(self, at: &At) -> io::Result<()> {
        let (target, dir) = (&at.target, at.target.parent().unwrap());
        let remove = || match fs::symlink_metadata(target) {
            Ok(found) if found.is_dir() => fs::rename(target, &at.away),
            Ok(_) => fs::remove_file(target),
            Err(_) => Ok(()),
        };
        if !self.is_in_place() {
            remove()?;
        }
        match self {
            Change::LinkToSecret => symlink(at.scratch.join(SECRET), target),
            Change::LinkToProgram => symlink(at.scratch.join(PROGRAM), target),
            Change::LinkToDirectory => symlink(at.scratch.join(DIRECTORY), target),
            Change::HardLinkOfSecret => fs::hard_link(at.scratch.join(SECRET), target),
            Change::HardLinkOfProgram => fs::hard_link(at.scratch.join(PROGRAM), target),
            Change::Pipe => node(target, FileType::Fifo),
            Change::Device => {
                // /dev/zero, which is without end, and of root alone.
                let (kind, mode) = (FileType::CharacterDevice, Mode::from_raw_mode(0o600));
                Ok(rustix::fs::mknodat(CWD, target, kind, mode, rustix::fs::makedev(1, 5))?)
            }
            Change::Directory => fs::create_dir(target),
            Change::Noise => fs::write(target, pattern(1, 8_192)),
            Change::Nothing => Ok(()),
            Change::MovedAway => fs::rename(target, target.with_extension("away")),
            Change::OthersFile => fs::rename(&at.others_file, target),
            Change::OthersDirectory => fs::rename(&at.others_directory, target),
            Change::OthersHeader => {
                let mut header = [0; 256];
                File::open(&at.others_file)?.read_exact(&mut header)?;
                stored(target)?.write_all_at(&header, 0)
            }
            Change::BlocksSwapped => {
                let (file, mut blocks) = (stored(target)?, [[0; 4096]; 2]);
                file.read_exact_at(&mut blocks[0], 0)?;
                file.read_exact_at(&mut blocks[1], 4096)?;
                file.write_all_at(&blocks[1][256..], 256)?;
                file.write_all_at(&blocks[0], 4096)
            }
            Change::Grown => {
                let file = stored(target)?;
                file.set_len(file.metadata()?.len() + 4096)
            }
            Change::Cut => stored(target)?.set_len(4096 + 100),
            Change::LinkInPlaceOfDirectory => {
                fs::rename(dir, &at.away)?;
                symlink(at.scratch.join(DIRECTORY), dir)
            }
            Change::OthersInPlaceOfDirectory => {
                fs::rename(dir, &at.away)?;
                fs::rename(&at.others_directory, dir)
            }
            Change::NothingInPlaceOfDirectory => fs::rename(dir, &at.away),
            Change::FileInPlaceOfDirectory => {
                fs::rename(dir, &at.away)?;
                fs::rename(&at.others_file, dir)
            }
        }
    }

    /// Whether what lies at the target stays there, or only moves.
    fn is_in_place(self) -> bool {
        use Change::*;
        matches!(
            self,
            MovedAway
                | OthersHeader
                | BlocksSwapped
                | Grown
                | Cut
                | LinkInPlaceOfDirectory
                | OthersInPlaceOfDirectory
                | NothingInPlaceOfDirectory
                | FileInPlaceOfDirectory
        )
    }

    /// Whether the change itself touches what a victim shows of its inode.
    fn links(self) -> bool {
        matches!(self, Change::HardLinkOfSecret | Change::HardLinkOfProgram)
    }
}

/// A file of the vault, without waiting for whoever may read it.
fn stored(path: &Path) -> io::Result<File> {
    let file = opening().read(true).write(true).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

/// Where an attacker works.
struct At {
    scratch: PathBuf,
    /// In the vault, or of what belongs to it.
    target: PathBuf,
    /// Where what is taken away goes.
    away: PathBuf,
    others_file: PathBuf,
    others_directory: PathBuf,
}

// Outside of the vault, on the same filesystem.
const SECRET: &str = "secret";
const PROGRAM: &str = "program";
const DIRECTORY: &str = "directory";

/// What [`SECRET`] holds.
const SECRET_CONTENT: &str = "of somebody else";

/// Makes what lies outside of the vault.
fn make_victims(scratch: &Path) {
    fs::write(scratch.join(SECRET), SECRET_CONTENT).unwrap();
    run(Command::new("cp").arg("/bin/true").arg(scratch.join(PROGRAM))).ok();
    fs::create_dir(scratch.join(DIRECTORY)).unwrap();
    fs::write(scratch.join(DIRECTORY).join("of-root"), "").unwrap();
    for (name, mode) in [(SECRET, 0o600), (PROGRAM, 0o4755), (DIRECTORY, 0o700)] {
        fs::set_permissions(scratch.join(name), Permissions::from_mode(mode)).unwrap();
    }
    rustix::fs::setxattr(scratch.join(SECRET), "user.mark", b"of root", XattrFlags::empty())
        .unwrap();
}

/// A file or a directory of root's to which nothing may happen, wherever it is moved.
struct Victim {
    what: &'static str,
    file: File,
    with_ctime: bool,
    before: String,
}

impl Victim {
    /// What lies outside of the vault, before a change.
    fn outside(scratch: &Path, change: Option<Change>) -> [Victim; 3] {
        let with_ctime = change.is_none_or(|change| !change.links());
        [
            Victim::new("the secret", &scratch.join(SECRET), with_ctime),
            Victim::new("the program", &scratch.join(PROGRAM), with_ctime),
            Victim::new("the directory", &scratch.join(DIRECTORY), true),
        ]
    }

    fn new(what: &'static str, path: &Path, with_ctime: bool) -> Victim {
        let file = File::open(path).unwrap();
        let before = Victim::looks(&file, with_ctime);
        Victim { what, file, with_ctime, before }
    }

    /// What happened to it, if anything did.
    fn harm(&self) -> Option<String> {
        let now = Victim::looks(&self.file, self.with_ctime);
        (now != self.before).then(|| format!("{}: {} is now {now}", self.what, self.before))
    }

    fn looks(file: &File, with_ctime: bool) -> String {
        let found = file.metadata().unwrap();
        let (mode, uid, gid) = (found.mode(), found.uid(), found.gid());
        let mut looks = format!("{mode:o} {uid}:{gid} {}.{}", found.mtime(), found.mtime_nsec());
        if with_ctime {
            write!(looks, " {}.{}", found.ctime(), found.ctime_nsec()).unwrap();
        }
        if found.is_dir() {
            let names = fs::read_dir(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap();
            let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            write!(looks, " {names:?}").unwrap();
        } else {
            let mut content = vec![0; found.len().min(1 << 20) as usize];
            file.read_exact_at(&mut content, 0).unwrap();
            let sum = content.iter().fold(7_u64, |sum, byte| {
                (sum ^ u64::from(*byte)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
            });
            let mut names = [0; 256];
            let len = rustix::fs::flistxattr(file, &mut names).unwrap();
            write!(looks, " {} {sum:x} {}", found.len(), names[..len].escape_ascii()).unwrap();
        }
        looks
    }
}
