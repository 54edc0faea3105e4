//! A vault on a disk that answers no change at all (fsfreeze(8)): whoever changes something waits
//! for it, and nobody else does.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use rustix::fs::{XattrFlags, setxattr};

use crate::common::{Mounted, wait_until};
use crate::slow_disk::{Device, Latency, SlowDisk, kill_all};

const LONG: Duration = Duration::from_secs(60);
/// After so long a disk is thawed whatever happens, so that a failure ends.
const MOST: Duration = Duration::from_secs(20);

/// Does `work` while the disk is frozen.
fn frozen<T>(device: &Device, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        // What was closed a moment ago is written first.
        thread::sleep(Duration::from_millis(500));
        device.freeze();
        scope.spawn(move || {
            if is_done.recv_timeout(MOST) == Err(RecvTimeoutError::Timeout) {
                eprintln!("thawed before its time");
            }
            device.thaw();
        });
        let result = work();
        drop(done);
        result
    })
}

fn file(path: impl AsRef<Path>) {
    fs::write(path, b"x").unwrap();
}

/// Programs that each change something in a directory of its own, and wait for the disk.
fn changes(mount: &Mounted) -> Vec<Child> {
    let names: [&[&str]; 9] = [
        &["touch", "create/new"],
        &["mkdir", "mkdir/new"],
        &["mkfifo", "mknod/new"],
        &["ln", "-s", "target", "symlink/new"],
        &["ln", "link/old", "link/new"],
        &["rm", "unlink/old"],
        &["rmdir", "rmdir/old"],
        &["mv", "-T", "rename/old", "rename/new"],
        &["chmod", "0751", "chmod/old"],
    ];
    let start = |args: &&[&str]| {
        let mut command = Command::new(args[0]);
        command.args(&args[1..]).current_dir(mount.path()).stderr(Stdio::inherit());
        command.spawn().unwrap()
    };
    let children = names.iter().map(start).collect();
    thread::sleep(Duration::from_millis(500));
    children
}

fn prepare(mount: &Mounted) {
    for dir in ["create", "mkdir", "mknod", "symlink", "link", "unlink", "rmdir", "rename", "chmod"]
    {
        fs::create_dir(mount.join(dir)).unwrap();
    }
    for dir in ["link", "unlink", "rename", "chmod"] {
        file(mount.join(dir).join("old"));
    }
    fs::hard_link(mount.join("unlink/old"), mount.join("unlink/other")).unwrap();
    fs::create_dir(mount.join("rmdir/old")).unwrap();
    file(mount.join("rename/new"));
    fs::hard_link(mount.join("rename/new"), mount.join("rename/other")).unwrap();
}

/// Which of the [`changes`] were made, as far as programs see.
fn made(mount: &Mounted) -> Vec<bool> {
    let stat = |path: &str| fs::symlink_metadata(mount.join(path));
    let is_there = |path: &str| stat(path).is_ok();
    vec![
        stat("create/new").is_ok_and(|meta| meta.is_file()),
        stat("mkdir/new").is_ok_and(|meta| meta.is_dir()),
        stat("mknod/new").is_ok_and(|meta| meta.file_type().is_fifo()),
        stat("symlink/new").is_ok_and(|meta| meta.is_symlink()),
        stat("link/new").is_ok_and(|meta| meta.nlink() == 2),
        !is_there("unlink/old"),
        stat("unlink/other").is_ok_and(|meta| meta.nlink() == 1),
        !is_there("rmdir/old"),
        !is_there("rename/old") && is_there("rename/new"),
        stat("rename/other").is_ok_and(|meta| meta.nlink() == 1),
        stat("chmod/old").is_ok_and(|meta| meta.mode() & 0o777 == 0o751),
    ]
}

#[test]
fn who_changes_something_else_keeps_nobody_waiting() {
    let Some(SlowDisk { vault, device }) = SlowDisk::new() else { return };
    let mount = vault.mount(&[]);
    prepare(&mount);
    for dir in ["elsewhere", "moving", "moving/below"] {
        fs::create_dir(mount.join(dir)).unwrap();
    }
    for path in ["elsewhere/file", "moving/file", "moving/below/file", "marked"] {
        file(mount.join(path));
    }
    let mut latency = Latency::new();
    thread::scope(|scope| {
        frozen(&device, || {
            let waiting = changes(&mount);
            scope.spawn(|| fs::rename(mount.join("moving"), mount.join("moved")).unwrap());
            scope.spawn(|| setxattr(mount.join("marked"), "user.mark", b"1", XattrFlags::empty()));
            thread::sleep(Duration::from_millis(200));
            latency.look_up(&mount.join("elsewhere"), 200);
            latency.assert_quick("lookups");
            latency.open(&mount.join("elsewhere"), 200);
            latency.assert_quick("opens");
            // Also beside a name that changes, and below a directory that moves.
            latency.look_up(&mount.join("chmod"), 50);
            latency.assert_quick("lookups beside");
            latency.open(&mount.join("moving/below"), 50);
            latency.assert_quick("opens below");
            assert!(fs::read_dir(mount.join("elsewhere")).unwrap().count() == 1);
            waiting
        })
        .into_iter()
        .for_each(|mut child| assert!(child.wait().unwrap().success()));
    });
    assert_eq!(made(&mount), vec![true; 11]);
    file(mount.join("moved/below/other"));
    let mount = mount.remount(&[]);
    assert_eq!(made(&mount), vec![true; 11]);
    assert!(fs::read_dir(mount.join("moved/below")).unwrap().count() == 2);
    mount.unmount();
    latency.end();
}

#[test]
fn who_is_killed_in_a_change_is_gone_and_kernel_and_vault_agree() {
    let Some(SlowDisk { vault, device }) = SlowDisk::new() else { return };
    let mount = vault.mount(&[]);
    prepare(&mount);
    // What the kernel knows by now: names that are not there, and how often others are linked.
    assert_eq!(made(&mount), vec![false; 11]);
    frozen(&device, || kill_all(changes(&mount)));
    let done = wait_until(LONG, || (made(&mount) == vec![true; 11]).then_some(()));
    assert!(done.is_some(), "{:?}", made(&mount));
    symlink("target", mount.join("create/another")).unwrap();
    fs::remove_file(mount.join("create/new")).unwrap();
    file(mount.join("create/new"));
    let mount = mount.remount(&[]);
    assert_eq!(made(&mount), vec![true; 11]);
    mount.unmount();
}
