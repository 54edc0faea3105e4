//! A walk over many files: no descriptor and little memory for each of them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Campaign, Mounted, Vault, require, run_within};

const DIRECTORIES: u32 = 100;

/// The daemon under `ulimit -n 1024`, whatever the machine's limit is.
fn mount_with_few_descriptors(vault: &Vault) -> Mounted {
    let limit = |command: Command| {
        let mut limited = Command::new(require("prlimit"));
        limited
            .arg("--nofile=1024:1024")
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        run_within(Duration::from_secs(60), &mut limited)
    };
    Mounted::try_mount_with(vault, &[], limit).unwrap_or_else(|outcome| panic!("{outcome}"))
}

fn descriptors(mount: &Mounted) -> usize {
    fs::read_dir(format!("/proc/{}/fd", mount.pid())).unwrap().count()
}

/// Stats every file, and reads one in ten; returns how many there are.
fn walk(mount: &Mounted) -> u32 {
    let mut count = 0;
    for dir in 0..DIRECTORIES {
        for entry in fs::read_dir(mount.join(dir.to_string())).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            if meta.ino() % 10 == 0 {
                assert_eq!(fs::read(entry.path()).unwrap().len() as u64, meta.len());
            }
            count += 1;
        }
    }
    count
}

#[test]
fn many_files_with_few_descriptors_and_little_memory() {
    let files: u32 = Campaign::pick(20_000, 1_000_000);
    let began = Instant::now();
    let vault = Vault::init();
    let mount = mount_with_few_descriptors(&vault);
    let each = files / DIRECTORIES;
    thread::scope(|scope| {
        for half in 0..2 {
            let mount = &mount;
            scope.spawn(move || {
                for dir in (half..DIRECTORIES).step_by(2) {
                    fs::create_dir(mount.join(dir.to_string())).unwrap();
                    for number in 0..each {
                        let length = if number % 5 == 0 { 100 } else { 0 };
                        fs::write(mount.join(format!("{dir}/file-{number}")), vec![b'x'; length])
                            .unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(walk(&mount), files);
    mount.unmount();
    let mount = mount_with_few_descriptors(&vault);
    let before = mount.resident_kib();
    let mut find = Command::new(require("find"));
    let listed = run_within(
        Duration::from_secs(900),
        find.arg(mount.path()).args(["-type", "f", "-size", "-10"]),
    )
    .ok();
    assert_eq!(listed.stdout.lines().count() as u32, files);
    assert_eq!(walk(&mount), files);
    let after = mount.resident_kib();
    let (open, took) = (descriptors(&mount), began.elapsed().as_secs());
    Campaign::report(format!(
        "{files} files walked twice: {before} KiB before, {after} KiB after, {open} descriptors, {took} s in all"
    ));
    assert!(open < 200, "{open} descriptors are open");
    assert!(after < 300 * 1024, "{after} KiB");
    // The same bound a file, so that the short form says something of the long one.
    let bound = before + 16 * 1024 + u64::from(files);
    assert!(after < bound, "{after} KiB for {files} files; the bound is {bound}");
}
