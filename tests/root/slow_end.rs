//! A daemon that takes its time to end.

use std::fs::{self, File};
use std::process::Command;
use std::time::Duration;

use crate::common::mounted::is_mounted;
use crate::common::{Vault, require_root, run, wait_until};

/// The disk of its trail stands still: here another vault, whose daemon is stopped.
#[test]
fn umount_waits_as_long_as_the_daemon_lives_and_says_so() {
    require_root();
    let (disk, vault) = (Vault::init(), Vault::init());
    let below = disk.mount(&["--no-writeback", "--no-trail"]);
    let trail = below.join("trail").display().to_string();
    let mut mount = vault.mount(&["--trail", &trail]);
    fs::write(mount.join("file"), b"content").unwrap();
    // Asked for now: nobody answers while it is stopped.
    let pid = below.pid().to_string();
    let signal = |signal: &str| run(Command::new("kill").args([signal, &pid])).ok();
    let told = vault.scratch().join("told");
    signal("-STOP");
    let mut umount = vault.command(&["umount"]);
    let mut umount = umount.arg(mount.path()).stderr(File::create(&told).unwrap()).spawn().unwrap();
    let says = || fs::read_to_string(&told).unwrap();
    let said =
        wait_until(Duration::from_secs(30), || says().contains("waiting until").then_some(()));
    let ended = umount.try_wait().unwrap();
    signal("-CONT");
    assert!(said.is_some() && ended.is_none(), "{ended:?}: {}", says());
    let status = wait_until(Duration::from_secs(60), || umount.try_wait().unwrap());
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {}", says());
    assert_eq!(says().lines().count(), 1, "{}", says());
    assert!(!is_mounted(&vault.mountpoint()));
    mount.forget();
}
