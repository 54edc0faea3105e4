//! The tests' own ground: a mount comes and goes, and a failure leaves nothing behind.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic::{self, AssertUnwindSafe};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::mounted::{daemons_of, is_mounted};
use crate::common::{Allow, Mounted, Vault, run, wait_until};

#[test]
fn a_mount_comes_and_goes() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    let status = mount.status_json();
    assert_eq!(status["mounted"], true, "{status}");
    assert_eq!(status["format"], 1, "{status}");
    assert_eq!(status["names"], "plain", "{status}");
    assert_eq!(status["key_version"], 1, "{status}");
    fs::write(mount.join("a"), b"hello").unwrap();
    let mount = mount.remount(&[]);
    assert_eq!(fs::read(mount.join("a")).unwrap(), b"hello");
    mount.unmount();
    assert!(!is_mounted(&vault.mountpoint()));
    assert_eq!(daemons_of(&vault.mountpoint()), Vec::<u32>::new());
}

#[test]
fn a_failed_test_leaves_no_mount_and_no_daemon() {
    let vault = Vault::init();
    let mountpoint = vault.mountpoint();
    let scratch = vault.scratch().path().to_owned();
    let mut busy = None;
    let failed = panic::catch_unwind(AssertUnwindSafe(|| {
        let mount = vault.mount(&[]);
        fs::write(mount.join("a"), b"hello").unwrap();
        busy = Some(fs::File::open(mount.join("a")).unwrap());
        panic!("on purpose");
    }));
    assert!(failed.is_err());
    assert!(!is_mounted(&mountpoint));
    assert_eq!(daemons_of(&mountpoint), Vec::<u32>::new());
    drop(busy);
    drop(vault);
    assert!(!scratch.exists());
}

#[test]
fn a_killed_daemon_leaves_a_mount_point_that_mount_recovers() {
    let vault = Vault::init();
    let mut mount = vault.mount(&[]);
    fs::write(mount.join("a"), b"hello").unwrap();
    mount.kill9();
    assert!(fs::read(mount.join("a")).is_err());
    let mut mount = mount.remount(&[]);
    mount.allow(Allow::Warnings);
    assert_eq!(fs::read(mount.join("a")).unwrap(), b"hello");
}

#[test]
fn a_killed_daemon_leaves_a_mount_point_that_umount_recovers() {
    let vault = Vault::init();
    let mut mount = vault.mount(&[]);
    fs::write(mount.join("a"), b"hello").unwrap();
    let socket = socket_of(&mount);
    assert!(socket.exists(), "{}", socket.display());
    mount.kill9();
    mount.try_unmount().ok();
    assert!(!is_mounted(&vault.mountpoint()));
    assert!(!socket.exists(), "{} is left behind", socket.display());
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Warnings);
    assert_eq!(fs::read(mount.join("a")).unwrap(), b"hello");
}

/// Another vault than the dead daemon's is mounted over it.
#[test]
fn a_mount_point_is_recovered_for_another_vault() {
    let (vault, other) = (Vault::init(), Vault::init());
    let mut mount = vault.mount(&[]);
    let socket = socket_of(&mount);
    mount.kill9();
    let mut again = other.command(&["mount"]);
    again.arg(other.path()).arg(vault.mountpoint()).arg("--log-file").arg(other.next_log());
    let told = run(&mut again).ok().stderr;
    assert!(told.contains("recovered"), "{told}");
    fs::write(vault.mountpoint().join("a"), b"hello").unwrap();
    run(other.command(&["umount"]).arg(vault.mountpoint())).ok();
    mount.forget();
    assert!(!socket.exists(), "{} is left behind", socket.display());
    other.verify();
}

/// The control socket of a running daemon.
fn socket_of(mount: &Mounted) -> PathBuf {
    let meta = fs::metadata(mount.vault().path()).unwrap();
    let name = format!("{:x}-{:x}.sock", meta.dev(), meta.ino());
    let user = rustix::process::geteuid().as_raw();
    let directories = [
        "/run/atrest".to_owned(),
        format!("/run/user/{user}/atrest"),
        format!("/tmp/atrest-{user}"),
    ];
    let mut paths = directories.iter().map(|directory| PathBuf::from(directory).join(&name));
    paths.find(|path| path.exists()).expect("a control socket")
}

/// `$(atrest mount …)` and `atrest mount … | cat` must come back: the daemon keeps no end of the
/// pipe.
#[test]
fn the_daemon_lets_go_of_its_standard_streams() {
    let vault = Vault::init();
    // The guard unmounts at the end; the mount that it stands for is the one made below.
    let mut mount = vault.mount(&[]);
    mount.try_unmount().ok();
    let mut again = vault.command(&["mount"]);
    again.arg(vault.path()).arg(vault.mountpoint()).arg("--log-file").arg(vault.next_log());
    let mut child =
        again.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = Command::new("cat")
        .stdin(child.stdout.take().unwrap())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let done = wait_until(Duration::from_secs(30), || reader.try_wait().unwrap());
    let status = child.wait().unwrap();
    if done.is_none() {
        reader.kill().unwrap();
        reader.wait().unwrap();
    }
    mount.try_unmount().ok();
    assert!(status.success());
    assert!(done.is_some(), "the daemon holds the pipe that was mount's output");
}
