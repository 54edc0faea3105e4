//! A vault that was moved, and one that was copied: neither is a forgery, and the copy leaves the
//! original's evidence alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rustix::mount::UnmountFlags;

use crate::common::{Allow, Vault, require_root, run};

#[test]
fn a_vault_that_was_moved_goes_on() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    let moved = vault.scratch().join("moved");
    fs::rename(vault.path(), &moved).unwrap();
    let mount = |expected: &str| {
        let mounted = run(vault.command(&["mount"]).arg(&moved).arg(vault.mountpoint())).ok();
        let status = run(vault.command(&["status", "--json"]).arg(&moved)).ok();
        let content = fs::read(vault.mountpoint().join("file"));
        run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["freshness"]["found"], expected, "{status}");
        assert_eq!(content.unwrap(), b"content");
        mounted
    };
    let told = mount("moved");
    assert!(told.stderr.contains("when it was last seen"), "{told}");
    assert!(!mount("fresh").stderr.contains("last seen"));
}

/// A bind mount, which goes with this.
struct Bound(PathBuf);

impl Drop for Bound {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
fn a_bind_mount_of_a_vault_is_that_vault() {
    require_root();
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let bound = Bound(vault.scratch().make_dir("bound"));
    run(Command::new("mount").arg("--bind").arg(vault.path()).arg(&bound.0)).ok();
    for dir in [&bound.0, &vault.path()] {
        run(vault.command(&["mount"]).arg(dir).arg(vault.mountpoint())).ok();
        let status = run(vault.command(&["status", "--json"]).arg(dir)).ok();
        run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["freshness"]["found"], "fresh", "{status}");
    }
}

#[test]
fn a_copy_is_told_apart_and_leaves_the_original_alone() {
    let vault = Vault::init();
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    let copy = vault.scratch().join("copy");
    run(Command::new("cp").arg("-a").arg(vault.path()).arg(&copy)).ok();
    let state = vault.scratch().join("home/state");
    let kept = vault.scratch().join("kept state");
    run(Command::new("cp").arg("-a").arg(&state).arg(&kept)).ok();
    let mount = |options: &[&str]| {
        run(vault.command(&["mount"]).arg(&copy).arg(vault.mountpoint()).args(options))
    };
    let umount = || run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();

    let refused = mount(&[]);
    assert_eq!(refused.code(), 11, "{refused}");
    assert!(refused.stderr.contains("it is a copy of the vault in"), "{refused}");
    let read = mount(&["--read-only"]).ok();
    assert!(read.stderr.contains("is a copy of the one in"), "{read}");
    assert_eq!(fs::read(vault.mountpoint().join("file")).unwrap(), b"content");
    umount();
    let same = run(Command::new("diff").arg("-r").arg(&state).arg(&kept));
    assert!(same.success(), "reading a copy changed the original's evidence: {same}");

    // Without one it stays a copy, also the next time.
    mount(&["--no-trail"]).ok();
    umount();
    let refused = mount(&[]);
    assert_eq!(refused.code(), 11, "{refused}");
    // With a trail of its own it is a vault as any other.
    let trail = vault.scratch().join("trail of the copy");
    let own = ["--trail", trail.to_str().unwrap()];
    mount(&own).ok();
    fs::write(vault.mountpoint().join("other"), b"of the copy").unwrap();
    umount();
    mount(&[]).ok();
    umount();
    let verified = run(vault.command(&["trail", "verify"]).arg(&copy)).ok();
    assert!(!verified.stdout.is_empty());

    // The original never heard of it.
    let mount = vault.mount(&[]);
    assert_eq!(mount.status_json()["freshness"]["found"], "fresh");
    mount.unmount();
    run(vault.command(&["trail", "verify"]).arg(vault.path())).ok();
}

#[test]
fn another_machine_says_once_that_it_can_not_know() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let elsewhere = vault.scratch().join("elsewhere");
    let try_mount = |options: &[&str]| {
        let mut command = vault.command(&["mount"]);
        command.env("XDG_STATE_HOME", &elsewhere).arg(vault.path()).arg(vault.mountpoint());
        run(command.args(options))
    };
    let mount = || {
        let mounted = try_mount(&[]).ok();
        run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
        mounted.stderr.contains("for the first time")
    };
    assert!(mount());
    assert!(!mount());
    // Both machines may go on in turn.
    let mounted = vault.mount(&[]);
    assert_eq!(mounted.status_json()["freshness"]["found"], "fresh");
    mounted.unmount();
    assert!(!mount());
    vault.mount(&[]).unmount();
    // Who deletes what a machine knows makes it no other machine.
    let records =
        fs::read_dir(elsewhere.join("atrest")).unwrap().map(|entry| entry.unwrap().path());
    let records: Vec<_> =
        records.filter(|path| path.extension().is_some_and(|it| it == "freshness")).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    let kept = fs::read(&records[0]).unwrap();
    fs::remove_file(&records[0]).unwrap();
    if atrest::sys::machine_id().is_some() {
        let refused = try_mount(&[]);
        assert_eq!(refused.code(), 11, "{refused}");
        assert!(refused.stderr.contains("is missing, and the vault told it of"), "{refused}");
    }
    fs::write(&records[0], kept).unwrap();
    assert!(!mount());
}

/// A file with records, but for that of this vault, is an older one.
#[test]
fn a_record_from_before_a_vault_moved_to_another_disk_is_an_older_one() {
    if atrest::sys::machine_id().is_none() {
        return;
    }
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let records = vault.scratch().join("home/state/atrest");
    let of_vault = |path: &PathBuf| path.extension().is_some_and(|it| it == "freshness");
    let mut found = fs::read_dir(records).unwrap().map(|entry| entry.unwrap().path());
    let record = found.find(of_vault).unwrap();
    let (older, disk) = (fs::read(&record).unwrap(), vault.scratch().join("disk"));
    run(Command::new("cp").arg("-a").arg(vault.path()).arg(&disk)).ok();
    fs::remove_dir_all(vault.path()).unwrap();
    let mount = |options: &[&str]| {
        run(vault.command(&["mount"]).arg(&disk).arg(vault.mountpoint()).args(options))
    };
    let umount = || run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
    for _ in 0..2 {
        mount(&[]).ok();
        umount();
    }
    fs::write(&record, older).unwrap();
    let refused = mount(&[]);
    assert_eq!(refused.code(), 11, "{refused}");
    assert!(refused.stderr.contains("put a newer state of the file back"), "{refused}");
    // Once accepted, also for reading alone, it is not asked again.
    mount(&["--accept-rollback", "--read-only"]).ok();
    umount();
    let told = mount(&[]).ok();
    umount();
    assert!(!told.stderr.contains("last seen"), "{told}");
}

/// What was taken for moved, since the original was away, is the copy when that comes back.
#[test]
fn an_original_that_comes_back_is_the_original() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let (copy, away) = (vault.scratch().join("copy"), vault.scratch().join("away"));
    run(Command::new("cp").arg("-a").arg(vault.path()).arg(&copy)).ok();
    fs::rename(vault.path(), &away).unwrap();
    let mount = |options: &[&str]| {
        run(vault.command(&["mount"]).arg(&copy).arg(vault.mountpoint()).args(options))
    };
    let umount = || run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
    let told = mount(&[]).ok();
    assert!(told.stderr.contains("when it was last seen"), "{told}");
    umount();
    let told = mount(&[]).ok();
    assert!(!told.stderr.contains("last seen"), "{told}");
    umount();
    fs::rename(&away, vault.path()).unwrap();
    let original = vault.mount(&[]);
    assert_eq!(original.status_json()["freshness"]["found"], "fresh");
    original.unmount();
    let refused = mount(&[]);
    assert_eq!(refused.code(), 11, "{refused}");
    assert!(refused.stderr.contains("it is a copy of the vault in"), "{refused}");
}

/// A machine that lost what it knew takes for the vault what it sees first.
#[test]
fn the_original_is_named_the_vault_again() {
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let copy = vault.scratch().join("copy");
    run(Command::new("cp").arg("-a").arg(vault.path()).arg(&copy)).ok();
    for entry in fs::read_dir(vault.scratch().join("home/state/atrest")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "freshness") {
            fs::remove_file(path).unwrap();
        }
    }
    let mount = |options: &[&str]| {
        run(vault.command(&["mount"]).arg(&copy).arg(vault.mountpoint()).args(options))
    };
    mount(&["--read-only", "--accept-rollback"]).ok();
    run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();
    let refused = vault.try_mount(&[]).err().expect("it counts as a copy");
    assert_eq!(refused.code(), 11, "{refused}");
    assert!(refused.stderr.contains("--accept-rollback"), "{refused}");
    let mut mounted = vault.mount(&["--accept-rollback"]);
    mounted.allow(Allow::Warnings);
    assert_eq!(mounted.status_json()["freshness"]["found"], "accepted-rollback");
    mounted.unmount();
    let again = vault.mount(&[]);
    assert_eq!(again.status_json()["freshness"]["found"], "fresh");
    again.unmount();
    let refused = mount(&[]);
    assert_eq!(refused.code(), 11, "{refused}");
    assert!(refused.stderr.contains("it is a copy of the vault in"), "{refused}");
}
