//! Inodes without a known name: calls by descriptor answer as on the filesystem below.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Timespec, Timestamps, XattrFlags};

use crate::common::{Mounted, Scratch, pattern};

each_cache!(
    what_is_held_by_path_alone_serves_every_call,
    what_is_open_serves_every_call_after_its_name,
    a_removed_directory_answers_as_below,
    one_of_two_names_removed_leaves_the_other,
    an_open_file_without_a_name_takes_one_descriptor,
);

/// Lengths of the files: a small and a large one.
const LENGTHS: [usize; 2] = [10_000, 2 << 20];

/// What calls gave, each as a line: the errno, or what can be told.
type Answers = Vec<String>;

fn path_fd(path: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).expect("an O_PATH descriptor")
}

fn proc_path(fd: &impl AsRawFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn link_held(held: &OwnedFd, to: &Path) -> io::Result<()> {
    let (cwd, flags) = (rustix::fs::CWD, rustix::fs::AtFlags::SYMLINK_FOLLOW);
    Ok(rustix::fs::linkat(cwd, proc_path(held), cwd, to, flags)?)
}

fn line<T>(what: &str, result: io::Result<T>, tell: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => format!("{what}: {}", tell(value)),
        Err(error) => format!("{what}: errno {:?}", error.raw_os_error()),
    }
}

fn stat_line(path: &Path) -> String {
    let tell = |meta: fs::Metadata| {
        format!(
            "mode {:o} links {} length {} mtime {} owner {}",
            meta.mode(),
            meta.nlink(),
            if meta.is_dir() { 0 } else { meta.len() },
            meta.mtime(),
            meta.uid()
        )
    };
    line("stat", fs::metadata(path), tell)
}

/// Every call that acts through a path such as /proc/self/fd/N, on a file of `length` bytes.
fn every_call(path: &Path, length: usize, answers: &mut Answers) {
    let done = |()| "done".to_owned();
    answers.push(line("chmod", fs::set_permissions(path, PermissionsExt::from_mode(0o640)), done));
    let owner = (Some(rustix::process::geteuid()), Some(rustix::process::getegid()));
    let chowned = rustix::fs::chown(path, owner.0, owner.1);
    answers.push(line("chown", chowned.map_err(Into::into), done));
    let at = |tv_sec| Timespec { tv_sec, tv_nsec: 0 };
    let times = Timestamps { last_access: at(1_000_000), last_modification: at(2_000_000) };
    let flags = rustix::fs::AtFlags::empty();
    let timed = rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags);
    answers.push(line("utimens", timed.map_err(Into::into), done));
    answers.push(stat_line(path));
    let set = rustix::fs::setxattr(path, "user.a", b"value", XattrFlags::CREATE);
    answers.push(line("setxattr", set.map_err(Into::into), done));
    let mut room = [0; 64];
    let got = rustix::fs::getxattr(path, "user.a", &mut room).map_err(Into::into);
    answers.push(line("getxattr", got, |len| format!("{len} bytes")));
    let listed = rustix::fs::listxattr(path, &mut room).map_err(Into::into);
    answers.push(line("listxattr", listed, |len: usize| format!("{}", len > 0)));
    let removed = rustix::fs::removexattr(path, "user.a").map_err(Into::into);
    answers.push(line("removexattr", removed, done));
    let file = OpenOptions::new().read(true).write(true).open(path);
    answers.push(line("open", file, |file| {
        let mut room = vec![0; length + 10_000];
        let len = file.read_at(&mut room, 0).unwrap_or_default();
        let same = room[..len] == pattern(0, len);
        let written = file.write_all_at(b"more", length as u64 + 20_000).is_ok();
        format!("{len} bytes, as written {same}, more {written}, {:?}", file.sync_all().is_ok())
    }));
    answers.push(line("truncate", OpenOptions::new().write(true).open(path), |file| {
        format!("{:?}", file.set_len(123).is_ok())
    }));
    answers.push(line("length", fs::metadata(path), |meta| meta.len().to_string()));
    answers.push(line("read", fs::read(path), |read| (read == pattern(0, 123)).to_string()));
}

/// Does the same on a bare directory and wants the same answers.
fn as_below(mount: &Mounted, act: impl Fn(&Path) -> Answers) {
    let bare = Scratch::new();
    let expected = act(&bare.make_dir("bare"));
    assert_eq!(act(mount.path()), expected);
}

fn what_is_held_by_path_alone_serves_every_call(mount: Mounted) {
    as_below(&mount, |dir| {
        let mut answers = Answers::new();
        for length in LENGTHS {
            let file = dir.join("file");
            fs::write(&file, pattern(0, length)).unwrap();
            let held = path_fd(&file);
            fs::remove_file(&file).unwrap();
            every_call(&proc_path(&held), length, &mut answers);
            answers.push(line("link", link_held(&held, &dir.join("again")), |()| "done".into()));
            // Replaced instead of removed, and a name of another is free again.
            fs::write(&file, pattern(0, length)).unwrap();
            let held = path_fd(&file);
            fs::write(dir.join("other"), b"other").unwrap();
            fs::rename(dir.join("other"), &file).unwrap();
            every_call(&proc_path(&held), length, &mut answers);
            answers.push(line("other", fs::read(&file), |read| format!("{read:?}")));
        }
        let link = dir.join("link");
        symlink("target", &link).unwrap();
        let held = path_fd(&link);
        fs::remove_file(&link).unwrap();
        let target = rustix::fs::readlinkat(&held, "", Vec::new()).map_err(Into::into);
        answers.push(line("readlink", target, |target| format!("{target:?}")));
        answers
    });
}

fn what_is_open_serves_every_call_after_its_name(mount: Mounted) {
    as_below(&mount, |dir| {
        let mut answers = Answers::new();
        for length in LENGTHS {
            let path = dir.join("file");
            fs::write(&path, pattern(0, length)).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            let held = path_fd(&path);
            fs::remove_file(&path).unwrap();
            file.write_all_at(b"behind", 2 * length as u64).unwrap();
            answers.push(line("length", file.metadata(), |meta| meta.len().to_string()));
            file.set_len(length as u64).unwrap();
            drop(file);
            every_call(&proc_path(&held), length, &mut answers);
        }
        answers
    });
}

fn a_removed_directory_answers_as_below(mount: Mounted) {
    as_below(&mount, |dir| {
        let path = dir.join("dir");
        fs::create_dir(&path).unwrap();
        let (opened, held) = (File::open(&path).unwrap(), path_fd(&path));
        fs::remove_dir(&path).unwrap();
        let done = |()| "done".to_owned();
        let mut answers = Answers::new();
        for path in [proc_path(&opened), proc_path(&held)] {
            let changed = fs::set_permissions(&path, PermissionsExt::from_mode(0o700));
            answers.push(line("chmod", changed, done));
            answers.push(line("stat", fs::metadata(&path), |meta| {
                format!("mode {:o} links {}", meta.mode(), meta.nlink())
            }));
            let set = rustix::fs::setxattr(&path, "user.a", b"v", XattrFlags::empty());
            answers.push(line("setxattr", set.map_err(Into::into), done));
            let mut room = [0; 8];
            let got = rustix::fs::getxattr(&path, "user.a", &mut room).map_err(Into::into);
            answers.push(line("getxattr", got, |len| len.to_string()));
            answers.push(line("fsync", opened.sync_all(), done));
            answers.push(line("list", fs::read_dir(&path), |entries| entries.count().to_string()));
            answers.push(line("file", fs::write(path.join("file"), b"x"), done));
            answers.push(line("mkdir", fs::create_dir(path.join("dir")), done));
        }
        answers
    });
}

fn one_of_two_names_removed_leaves_the_other(mount: Mounted) {
    let (first, second) = (mount.join("first"), mount.join("dir/second"));
    fs::create_dir(mount.join("dir")).unwrap();
    fs::write(&first, pattern(0, 10_000)).unwrap();
    fs::hard_link(&first, &second).unwrap();
    // Now the daemon knows of no name until it is asked for one.
    let mount = mount.remount(&[]);
    let held = path_fd(&first);
    let file = OpenOptions::new().read(true).write(true).open(&first).unwrap();
    fs::remove_file(&first).unwrap();
    rustix::fs::syncfs(File::open(mount.path()).unwrap()).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let mut answers = Answers::new();
    every_call(&proc_path(&held), 10_000, &mut answers);
    assert!(!answers.iter().any(|answer| answer.contains("errno")), "{answers:#?}");
    assert_eq!(fs::metadata(&second).unwrap().len(), 123);
    assert_eq!(fs::metadata(&second).unwrap().mode() & 0o777, 0o640);
    let third = mount.join("third");
    link_held(&held, &third).unwrap();
    assert_eq!(fs::metadata(&third).unwrap().ino(), fs::metadata(&second).unwrap().ino());
}

fn an_open_file_without_a_name_takes_one_descriptor(mount: Mounted) {
    let count = || fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap().count();
    fs::write(mount.join("first"), b"x").unwrap();
    let before = count();
    let files: Vec<_> = (0..100)
        .map(|number| {
            let path = mount.join(number.to_string());
            let file = File::create(&path).unwrap();
            fs::remove_file(&path).unwrap();
            file
        })
        .collect();
    let taken = count() - before;
    // Each thread of the session keeps one of the program that asked last, and the trail some.
    assert!(taken <= 130, "{taken} descriptors for 100 open files");
    drop(files);
}
