//! Each operation of the mount, each change, before each call.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FileType, RenameFlags, XattrFlags};

use super::{At, CONTENT, Change, KEEPERS, Victim, make_victims, node, opening};
use crate::common::injector::Injector;
use crate::common::{
    Allow, Campaign, Mounted, User, Vault, pattern, require_root, run, run_within,
};
use crate::nobody;

/// Longer no operation may take, whatever is done below it.
const LIMIT: Duration = Duration::from_secs(5);

/// Of this many steps a short campaign does one.
const STRIDE: usize = 61;

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
        make_victims(&scratch);
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
            scratch: self.vault.scratch().path().to_owned(),
            away: self.vault.scratch().join(format!("away-{number}")),
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
        let victims = Victim::outside(&here.scratch, change).into_iter().chain([
            Victim::new("root's file in the vault", &here.others_file, false),
            Victim::new("root's directory in the vault", &here.others_directory, false),
        ]);
        let victims: Vec<_> = victims.collect();
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
        wrong.extend(victims.iter().filter_map(Victim::harm));
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
