//! Trees deeper than a path can say, made, used and removed by descriptors.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, openat, statat, unlinkat};

use crate::common::{Mounted, Vault, run, run_within};

const LEVELS: usize = 20_000;
/// At every so many levels there is more than the next level.
const APART: usize = 500;

/// A daemon none of whose threads may use more stack than this.
fn mount_on_small_stacks(vault: &Vault, options: &[&str]) -> Mounted {
    let wrap = |mut command: std::process::Command| {
        run(command.env("RUST_MIN_STACK", (1024 * 1024).to_string()))
    };
    Mounted::try_mount_with(vault, options, wrap).unwrap_or_else(|outcome| panic!("{outcome}"))
}

fn open_dir(dir: &OwnedFd, name: &str) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::empty()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn root(mount: &Mounted) -> OwnedFd {
    fs::File::open(mount.path()).unwrap().into()
}

fn write(dir: &OwnedFd, name: &str, content: &[u8]) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::from_raw_mode(0o644)).unwrap();
    assert_eq!(rustix::io::write(file, content).unwrap(), content.len());
}

fn make(mount: &Mounted, levels: usize) {
    let mut dir = root(mount);
    for level in 0..levels {
        mkdirat(&dir, "d", Mode::from_raw_mode(0o755)).unwrap();
        if level % APART == 0 {
            mkdirat(&dir, "beside", Mode::from_raw_mode(0o755)).unwrap();
            write(&open_dir(&dir, "beside"), "file", b"beside");
        }
        dir = open_dir(&dir, "d");
    }
    write(&dir, "file", b"deep");
}

fn descend(mount: &Mounted, levels: usize) -> OwnedFd {
    (0..levels).fold(root(mount), |dir, _| open_dir(&dir, "d"))
}

/// As rm -r does it: down by descriptors, and removing on the way up.
fn remove(mount: &Mounted, levels: usize) {
    let mut dir = descend(mount, levels);
    unlinkat(&dir, "file", AtFlags::empty()).unwrap();
    for level in (0..levels).rev() {
        dir = open_dir(&dir, "..");
        unlinkat(&dir, "d", AtFlags::REMOVEDIR).unwrap();
        if level % APART == 0 {
            unlinkat(open_dir(&dir, "beside"), "file", AtFlags::empty()).unwrap();
            unlinkat(&dir, "beside", AtFlags::REMOVEDIR).unwrap();
        }
    }
}

fn read(dir: &OwnedFd, name: &str) -> Vec<u8> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let mut room = vec![0; 100];
    let len = rustix::io::read(file, &mut room[..]).unwrap();
    room.truncate(len);
    room
}

#[test]
fn twenty_thousand_levels_are_made_used_and_removed() {
    let vault = Vault::init();
    let mount = mount_on_small_stacks(&vault, &[]);
    make(&mount, LEVELS);
    let files = LEVELS / APART + 1;
    // The daemon knows all of it, and then none of it.
    let verified =
        run_within(Duration::from_secs(120), vault.command(&["verify"]).arg(vault.path()));
    assert!(verified.ok().stdout.contains(&format!("{files} files")));
    mount.unmount();
    vault.verify();
    let mount = mount_on_small_stacks(&vault, &[]);
    for command in
        [&["key", "rotate"][..], &["key", "rewrap"], &["key", "retire", "--version", "1"]]
    {
        run_within(Duration::from_secs(120), vault.command(command).arg(vault.path())).ok();
    }
    let deepest = descend(&mount, LEVELS);
    assert_eq!(read(&deepest, "file"), b"deep");
    assert_eq!(read(&open_dir(&descend(&mount, 500), "beside"), "file"), b"beside");
    rustix::fs::renameat(&deepest, "file", &deepest, "moved").unwrap();
    rustix::fs::renameat(&deepest, "moved", &deepest, "file").unwrap();
    assert_eq!(statat(&deepest, "file", AtFlags::empty()).unwrap().st_size, 4);
    drop(deepest);
    let begun = Instant::now();
    remove(&mount, LEVELS);
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
    assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
    mount.unmount();
    assert_eq!(fs::read_dir(vault.path()).unwrap().count(), 1, "only .atrest is left");
}

/// Longer than the 4095 bytes that a path in a system call may have.
#[test]
fn a_command_takes_a_path_of_any_length() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    make(&mount, 10_000);
    let deep: PathBuf = std::iter::repeat_n("d", 9_999).collect();
    let verify = |path: PathBuf| {
        let mut command = vault.command(&["verify"]);
        run_within(Duration::from_secs(120), command.arg(vault.path()).arg(path)).ok().stdout
    };
    assert!(verify(deep.clone()).contains("1 file,"));
    assert!(verify(deep.join("d/file")).contains("1 file,"));
    assert!(verify(mount.path().join(&deep)).contains("1 file,"));
    let mut assign = vault.command(&["key", "assign"]);
    run_within(Duration::from_secs(120), assign.arg(vault.path()).arg("default").arg(&deep)).ok();
    let mount = mount.remount(&[]);
    let deepest = descend(&mount, 10_000);
    write(&deepest, "new", b"new");
    drop(deepest);
    mount.unmount();
    let verify =
        vault.command(&["verify"]).arg(vault.path()).arg(deep.join("d/new")).output().unwrap();
    assert!(verify.status.success(), "{verify:?}");
    // By descriptors, since the scratch directory is removed by path.
    let mount = vault.mount(&[]);
    unlinkat(descend(&mount, 10_000), "new", AtFlags::empty()).unwrap();
    remove(&mount, 10_000);
}
