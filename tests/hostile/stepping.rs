//! Somebody changes the vault's directory between any two system calls of one operation: each
//! operation of the mount, each change, before each call.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, Mode, RenameFlags, XattrFlags};

use crate::common::injector::Injector;
use crate::common::{
    Allow, Campaign, Mounted, User, Vault, pattern, require_root, run, run_within,
};
use crate::nobody;

/// Longer no operation may take, whatever is done below it.
const LIMIT: Duration = Duration::from_secs(5);

/// Of this many steps a short campaign does one.
const STRIDE: usize = 13;

/// The group of those who may write the vault's directory.
const KEEPERS: u32 = 41_078;

const CONTENT: usize = 10_000;

/// What a program does in a directory of the mount; what it read there, if it reads.
type Act = fn(&Path) -> io::Result<Vec<u8>>;

/// An operation, and the name in the directory that the attacker puts something else at.
struct Operation {
    name: &'static str,
    target: &'static str,
    act: Act,
}

const fn on(name: &'static str, target: &'static str, act: Act) -> Operation {
    Operation { name, target, act }
}

static OPERATIONS: [Operation; 32] = [
    on("lookup", "file", |dir| nothing(fs::symlink_metadata(dir.join("file")))),
    on("read", "file", |dir| {
        // The kernel that finds a pipe waits for whoever writes into it.
        let mut read = Vec::new();
        let file = opening().read(true).open(dir.join("file"))?;
        file.take(1 << 20).read_to_end(&mut read)?;
        Ok(read)
    }),
    on("write", "file", |dir| {
        let file = opening().read(true).write(true).open(dir.join("file"))?;
        file.write_all_at(b"changed", 5_000)?;
        nothing(file.sync_all())
    }),
    on("empty", "file", |dir| {
        let file = opening().write(true).truncate(true).open(dir.join("file"))?;
        nothing(file.sync_all())
    }),
    on("fallocate", "file", |dir| {
        let file = opening().write(true).open(dir.join("file"))?;
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        nothing(Ok(rustix::fs::fallocate(&file, flags, 0, 8_192)?))
    }),
    on("fchmod", "file", |dir| {
        let file = opening().read(true).open(dir.join("file"))?;
        nothing(file.set_permissions(Permissions::from_mode(0o4777)))
    }),
    on("create", "new", |dir| {
        let file =
            opening().read(true).write(true).create(true).mode(0o666).open(dir.join("new"))?;
        file.write_all_at(b"made", 0)?;
        nothing(file.sync_all())
    }),
    on("create alone", "new", |dir| {
        nothing(opening().write(true).create_new(true).mode(0o4777).open(dir.join("new")))
    }),
    on("mkdir", "new", |dir| nothing(fs::create_dir(dir.join("new")))),
    on("mknod", "new", |dir| nothing(node(&dir.join("new"), FileType::RegularFile))),
    on("mknod of a pipe", "new", |dir| nothing(node(&dir.join("new"), FileType::Fifo))),
    on("symlink", "new", |dir| nothing(symlink("anywhere", dir.join("new")))),
    on("link", "file", |dir| nothing(fs::hard_link(dir.join("file"), dir.join("new")))),
    on("link to", "new", |dir| nothing(fs::hard_link(dir.join("file"), dir.join("new")))),
    on("rename", "file", |dir| nothing(fs::rename(dir.join("file"), dir.join("new")))),
    on("rename over", "other", |dir| nothing(fs::rename(dir.join("file"), dir.join("other")))),
    on("rename of a directory", "dir", |dir| nothing(fs::rename(dir.join("dir"), dir.join("new")))),
    on("exchange", "other", |dir| {
        let (from, to) = (dir.join("file"), dir.join("other"));
        nothing(Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::EXCHANGE)?))
    }),
    on("unlink", "file", |dir| nothing(fs::remove_file(dir.join("file")))),
    on("rmdir", "dir", |dir| nothing(fs::remove_dir(dir.join("dir")))),
    on("chmod", "file", |dir| {
        nothing(fs::set_permissions(dir.join("file"), Permissions::from_mode(0o4777)))
    }),
    on("chmod of a directory", "dir", |dir| {
        nothing(fs::set_permissions(dir.join("dir"), Permissions::from_mode(0o777)))
    }),
    on("chown", "file", |dir| {
        let user = rustix::process::geteuid().as_raw();
        nothing(std::os::unix::fs::lchown(dir.join("file"), Some(user), Some(user)))
    }),
    on("utimes", "file", |dir| {
        let time = |tv_sec| rustix::fs::Timespec { tv_sec, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: time(1), last_modification: time(2) };
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        nothing(Ok(rustix::fs::utimensat(CWD, dir.join("file"), &times, flags)?))
    }),
    on("truncate", "file", |dir| {
        let path = CString::new(dir.join("file").as_os_str().as_bytes()).unwrap();
        nothing(Ok(nix::unistd::truncate(path.as_c_str(), 5_000)?))
    }),
    on("setxattr", "file", |dir| {
        let flags = XattrFlags::empty();
        nothing(Ok(rustix::fs::lsetxattr(dir.join("file"), "user.mark", b"changed", flags)?))
    }),
    on("getxattr", "file", |dir| {
        let mut value = [0; 64];
        let len = rustix::fs::lgetxattr(dir.join("file"), "user.mark", &mut value)?;
        assert_eq!(&value[..len], b"theirs", "another's attribute was read");
        Ok(Vec::new())
    }),
    on("listxattr", "file", |dir| {
        let mut names = [0; 256];
        nothing(Ok(rustix::fs::llistxattr(dir.join("file"), &mut names)?))
    }),
    on("removexattr", "file", |dir| {
        nothing(Ok(rustix::fs::lremovexattr(dir.join("file"), "user.mark")?))
    }),
    on("readlink", "link", |dir| nothing(fs::read_link(dir.join("link")))),
    on("readdir", "file", |dir| {
        for entry in fs::read_dir(dir)? {
            let name = entry?.file_name();
            assert!(name != "of-root", "another's directory was listed");
        }
        Ok(Vec::new())
    }),
    on("statfs", "file", |dir| nothing(Ok(rustix::fs::statfs(dir)?))),
];

fn nothing<T>(done: io::Result<T>) -> io::Result<Vec<u8>> {
    done.map(|_| Vec::new())
}

fn opening() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NONBLOCK | libc::O_NOFOLLOW);
    options
}

fn node(path: &Path, kind: FileType) -> io::Result<()> {
    Ok(rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o666), 0)?)
}

/// What an attacker does. At the target of the operation, save where it says «in place of the
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
        let away = || at.scratch.join(format!("away-{}", at.number));
        let remove = || match fs::symlink_metadata(target) {
            Ok(found) if found.is_dir() => fs::rename(target, away()),
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
                fs::rename(dir, away())?;
                symlink(at.scratch.join(DIRECTORY), dir)
            }
            Change::OthersInPlaceOfDirectory => {
                fs::rename(dir, away())?;
                fs::rename(&at.others_directory, dir)
            }
            Change::NothingInPlaceOfDirectory => fs::rename(dir, away()),
            Change::FileInPlaceOfDirectory => {
                fs::rename(dir, away())?;
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
    number: usize,
    scratch: PathBuf,
    /// In the vault.
    target: PathBuf,
    others_file: PathBuf,
    others_directory: PathBuf,
}

// Outside of the vault, on the same filesystem.
const SECRET: &str = "secret";
const PROGRAM: &str = "program";
const DIRECTORY: &str = "directory";

/// A file or a directory of root's to which nothing may happen, wherever it is moved.
struct Victim {
    what: &'static str,
    file: File,
    with_ctime: bool,
    before: String,
}

impl Victim {
    fn new(what: &'static str, path: &Path, with_ctime: bool) -> Victim {
        let file = File::open(path).unwrap();
        let before = Victim::looks(&file, with_ctime);
        Victim { what, file, with_ctime, before }
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

/// A mount whose daemon is stepped through, and who attacks it.
struct Stage {
    vault: Vault,
    mount: Mounted,
    pid: u32,
    injector: Injector,
    actor: User,
    /// Whether what the attacker may do in the vault's directory is done by themselves.
    by_actor: bool,
    number: usize,
    found: BTreeMap<String, usize>,
}

impl Stage {
    fn new(actor: User, options: &[&str]) -> Stage {
        require_root();
        let vault = Vault::init().shared();
        let scratch = vault.scratch().path().to_owned();
        fs::write(scratch.join(SECRET), "of somebody else").unwrap();
        run(Command::new("cp").arg("/bin/true").arg(scratch.join(PROGRAM))).ok();
        fs::create_dir(scratch.join(DIRECTORY)).unwrap();
        fs::write(scratch.join(DIRECTORY).join("of-root"), "").unwrap();
        for (name, mode) in [(SECRET, 0o600), (PROGRAM, 0o4755), (DIRECTORY, 0o700)] {
            fs::set_permissions(scratch.join(name), Permissions::from_mode(mode)).unwrap();
        }
        rustix::fs::setxattr(scratch.join(SECRET), "user.mark", b"of root", XattrFlags::empty())
            .unwrap();
        prepare(&vault, &actor);

        let injector = Injector::new(&scratch);
        let mounted = Mounted::try_mount_with(&vault, options, |mut command| {
            injector.wrap(&mut command);
            run_within(Duration::from_secs(120), &mut command)
        });
        let mut mount = mounted.unwrap_or_else(|outcome| panic!("{outcome}"));
        mount.allow(Allow::Errors);
        let pid = mount.pid();
        Stage {
            vault,
            mount,
            pid,
            injector,
            actor,
            by_actor: false,
            number: 0,
            found: BTreeMap::new(),
        }
    }

    /// Does an operation in a directory that the kernel knows (`is_warm`), or has never seen, with a
    /// change before the call `at`. How many calls there were.
    fn step(
        &mut self,
        operation: &Operation,
        is_warm: bool,
        (change, at): (Option<Change>, usize),
    ) -> usize {
        self.number += 1;
        let (number, vault) = (self.number, self.vault.path());
        let what = format!("{} ({is_warm}), {change:?} before call {at}", operation.name);
        let name = format!("s{number}");
        let here = At {
            number,
            scratch: self.vault.scratch().path().to_owned(),
            target: vault.join(&name).join(operation.target),
            others_file: vault.join(format!("f{number}")),
            others_directory: vault.join(format!("d{number}")),
        };
        for (from, to) in [
            ("template", vault.join(&name)),
            ("private", here.others_file.clone()),
            ("private_dir", here.others_directory.clone()),
        ] {
            run(Command::new("cp").arg("-a").arg(vault.join(from)).arg(to)).ok();
        }
        let with_ctime = change.is_none_or(|change| !change.links());
        let victims = [
            Victim::new("the secret", &here.scratch.join(SECRET), with_ctime),
            Victim::new("the program", &here.scratch.join(PROGRAM), with_ctime),
            Victim::new("the directory", &here.scratch.join(DIRECTORY), true),
            Victim::new("root's file in the vault", &here.others_file, false),
            Victim::new("root's directory in the vault", &here.others_directory, false),
        ];
        let dir = self.mount.join(&name);
        if is_warm {
            for name in ["file", "link", "dir", "other", "new"] {
                let _ = fs::symlink_metadata(dir.join(name));
            }
        }
        let (made_by, is_made) = (self.by_actor.then(|| self.actor.clone()), Arc::default());
        let made = Arc::<AtomicBool>::clone(&is_made);
        self.injector.step(at, move || {
            let Some(change) = change else { return };
            let by_them = made_by.is_some_and(|user| user.run(|| change.make(&here)).is_ok());
            made.store(by_them || change.make(&here).is_ok(), Ordering::Relaxed);
        });
        let (actor, act) = (self.actor.clone(), operation.act);
        let begun = Instant::now();
        let done = thread::spawn(move || actor.run(|| act(&dir)));
        while !done.is_finished() {
            assert!(begun.elapsed() < LIMIT, "{what}: hangs");
            thread::sleep(Duration::from_micros(100));
        }
        let calls = self.injector.heal().0;
        let mut wrong = Vec::new();
        match done.join() {
            Ok(Ok(read)) => {
                let is_content = read == pattern(0, CONTENT);
                // Of what the attacker made themselves, or took away.
                let is_theirs = read.is_empty() && change.is_some();
                if operation.name == "read" && !is_content && !is_theirs {
                    wrong.push(format!("{} other bytes were read", read.len()));
                }
                if change.is_none() && operation.name != "read" && !read.is_empty() {
                    wrong.push("read".to_owned());
                }
            }
            Ok(Err(error)) => {
                let errno = error.raw_os_error();
                if change.is_none() {
                    wrong.push(format!("failed undisturbed: {error}"));
                } else if matches!(errno, Some(libc::ENOTCONN | libc::ECONNABORTED)) {
                    wrong.push(format!("the daemon is gone: {error}"));
                }
            }
            Err(panic) => {
                let said = panic.downcast_ref::<String>().cloned();
                wrong.push(said.unwrap_or_else(|| "a panic".to_owned()));
            }
        }
        for victim in &victims {
            let now = Victim::looks(&victim.file, victim.with_ctime);
            if now != victim.before {
                wrong.push(format!("{}: {} is now {now}", victim.what, victim.before));
            }
        }
        assert!(Path::new(&format!("/proc/{}", self.pid)).exists(), "{what}: the daemon died");
        for wrong in wrong {
            eprintln!("{what}: {wrong}");
            *self.found.entry(format!("{}, {change:?}", operation.name)).or_default() += 1;
        }
        calls
    }

    /// Some operations with some changes, before each call, or of every `stride` of these one; `counts`
    /// are the steps and all that there could be.
    fn play(
        &mut self,
        operations: &[&Operation],
        changes: &[Change],
        (stride, counts): (usize, &mut [usize; 2]),
    ) {
        for operation in operations {
            for is_warm in [true, false] {
                let calls = self.step(operation, is_warm, (None, 0));
                for change in changes {
                    for at in 0..calls {
                        counts[1] += 1;
                        if counts[1].is_multiple_of(stride) {
                            counts[0] += 1;
                            self.step(operation, is_warm, (Some(*change), at));
                        }
                    }
                }
            }
        }
        assert!(self.found.is_empty(), "{:#?}", self.found);
        let log = self.mount.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}

/// The whole play, on a vault for every few operations: nothing is removed in between, or what comes
/// next would get inode numbers that the mount still knows.
fn play(stage: impl Fn() -> Stage) {
    let mut counts = [0; 2];
    for operations in OPERATIONS.chunks(8) {
        let operations: Vec<_> = operations.iter().collect();
        let stride = Campaign::pick(STRIDE, 1);
        stage().play(&operations, &Change::ALL, (stride, &mut counts));
    }
    Campaign::report(format!("{} steps of {}", counts[0], counts[1]));
}

fn named(names: &[&str]) -> Vec<&'static Operation> {
    OPERATIONS.iter().filter(|operation| names.contains(&operation.name)).collect()
}

/// What each step begins with a copy of: a directory of the actor's, a file and a directory of root's.
fn prepare(vault: &Vault, actor: &User) {
    let mount = vault.mount(&["--allow-other"]);
    let template = mount.join("template");
    fs::create_dir(&template).unwrap();
    std::os::unix::fs::chown(&template, Some(actor.uid), Some(actor.gid)).unwrap();
    actor.run(|| {
        for name in ["file", "other"] {
            fs::write(template.join(name), pattern(0, CONTENT)).unwrap();
            let flags = XattrFlags::empty();
            rustix::fs::setxattr(template.join(name), "user.mark", b"theirs", flags).unwrap();
        }
        fs::create_dir(template.join("dir")).unwrap();
        symlink("file", template.join("link")).unwrap();
    });
    fs::write(mount.join("private"), pattern(2, CONTENT)).unwrap();
    fs::set_permissions(mount.join("private"), Permissions::from_mode(0o600)).unwrap();
    rustix::fs::setxattr(mount.join("private"), "user.mark", b"of root", XattrFlags::empty())
        .unwrap();
    fs::create_dir(mount.join("private_dir")).unwrap();
    fs::write(mount.join("private_dir/of-root"), "").unwrap();
    fs::set_permissions(mount.join("private_dir"), Permissions::from_mode(0o700)).unwrap();
    mount.unmount();
}

#[test]
fn nobody_changes_the_vault_between_any_two_calls() {
    play(|| Stage::new(nobody(), &["--allow-other"]));
}

/// Who may also write the vault's directory, and speak to the daemon.
#[test]
fn a_keeper_changes_the_vault_between_any_two_calls() {
    play(|| {
        let keeper = User::new(41_003).with_groups(&[41_003, KEEPERS]);
        let group = KEEPERS.to_string();
        let mut stage = Stage::new(keeper, &["--allow-other", "--admin-group", &group]);
        let vault = stage.vault.path();
        std::os::unix::fs::chown(&vault, None, Some(KEEPERS)).unwrap();
        fs::set_permissions(&vault, Permissions::from_mode(0o770)).unwrap();
        stage.by_actor = true;
        stage
    });
}

#[test]
fn what_is_moved_to_a_name_just_made_is_not_given_away() {
    let made = named(&["mkdir", "mknod", "mknod of a pipe", "symlink", "create"]);
    let changes = [Change::OthersFile, Change::OthersDirectory, Change::OthersInPlaceOfDirectory];
    Stage::new(nobody(), &["--allow-other"]).play(&made, &changes, (1, &mut [0; 2]));
}

/// On ext4 what is made next has the number of what was just removed.
#[test]
fn an_inode_number_that_was_given_anew_is_another_file() {
    let acts = named(&["read", "write", "chmod", "truncate", "setxattr"]);
    let changes = [Change::Device, Change::Pipe, Change::Noise];
    Stage::new(nobody(), &["--allow-other"]).play(&acts, &changes, (1, &mut [0; 2]));
}
