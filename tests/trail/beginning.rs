//! Mounts that are killed as they begin suspect nobody; mounts that served somebody are missed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::common::mounted::{is_mounted, kill_and_wait};
use crate::common::{Allow, Vault, require_root, run, wait_until};
use crate::{assert_whole, directory, lines, one_sentence, trail};

const LIMIT: Duration = Duration::from_secs(60);
/// The exit code where there is no trail to look at.
const NO_TRAIL: i32 = 10;

fn state(vault: &Vault) -> (Vec<u8>, Value) {
    // It may be replaced in between, which leaves either.
    let path = vault.path().join(".atrest/state.json");
    let read = || {
        let bytes = fs::read(&path).ok()?;
        let parsed = serde_json::from_slice(&bytes).ok()?;
        Some((bytes, parsed))
    };
    wait_until(LIMIT, read).expect("a record of mounts")
}

fn newest(vault: &Vault) -> u64 {
    state(vault).1["current"].as_u64().unwrap()
}

/// What the vault's record says of the mount after `before`, from the moment on that it knows of it.
fn begun(vault: &Vault, before: u64) -> (Vec<u8>, Value) {
    let begun = Instant::now();
    loop {
        let (bytes, state) = state(vault);
        if state["current"].as_u64() > Some(before) {
            return (bytes, state);
        }
        assert!(begun.elapsed() < LIMIT, "no mount begins");
        thread::yield_now();
    }
}

/// Kills a mount so long after its number became known; whether it had served nobody, by the record.
fn kill_at_beginning(vault: &Vault, options: &[&str], moment: Duration) -> bool {
    let (before, log) = (newest(vault), vault.next_log());
    let mut command = vault.command(&["mount", "--foreground"]);
    command.arg(vault.path()).arg(vault.mountpoint()).arg("--log-file").arg(&log).args(options);
    let mut daemon = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    begun(vault, before);
    thread::sleep(moment);
    kill_and_wait(daemon.id());
    daemon.wait().unwrap();
    let logged = fs::read_to_string(log).unwrap_or_default();
    assert!(!logged.contains("ERROR"), "{logged}");
    assert_eq!(newest(vault), before + 1);
    state(vault).1["unserved"] == true
}

fn goes_on(vault: &Vault) {
    let mut mount = vault.mount(&[]);
    mount.allow(Allow::Warnings);
    fs::write(mount.join("file"), b"content").unwrap();
    assert_whole(vault);
    mount.unmount();
    assert_whole(vault);
}

/// At each moment of its beginning, the first of the trail among them.
#[test]
fn a_mount_that_is_killed_as_it_begins_suspects_nobody() {
    require_root();
    let mut unserved = 0;
    for options in [&[][..], &["--trail-sync"], &["--no-trail"]] {
        let vault = Vault::init();
        for step in 0..14 {
            unserved += u32::from(kill_at_beginning(&vault, options, STEP * step));
            // The first may have left no trail to look at.
            let said = trail(&vault, "verify", "");
            assert!(said.success() || said.code() == NO_TRAIL, "{step}: {said}");
            if step % 5 == 4 {
                goes_on(&vault);
            }
        }
        goes_on(&vault);
        assert!(!is_mounted(&vault.mountpoint()));
        let epochs = |name: &str| lines(&vault, &format!("--event {name}")).len();
        assert!(epochs("Mount") >= epochs("Unmount") && epochs("Unmount") >= 3);
    }
    // Each that is killed at once.
    assert!(unserved > 0, "none was killed before it served");
}

/// So much later each of them is killed.
const STEP: Duration = Duration::from_micros(700);

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").args(["-a", "-T"]).arg(from).arg(to)).ok();
}

fn replace(new: &Path, old: &Path) {
    if new.is_dir() {
        fs::remove_dir_all(new).unwrap();
    }
    copy(old, new);
}

/// A record of the moment when the mount had served nobody is authentic, and no excuse later: this
/// machine knows better.
#[test]
fn a_mount_that_served_is_not_made_one_that_never_did() {
    require_root();
    let vault = Vault::init();
    let seal = vault.path().join(".atrest/trail.json");
    let (old_trail, old_seal) =
        (vault.scratch().join("old trail"), vault.scratch().join("old seal"));
    vault.mount(&[]).unmount();
    let early = (0..20).find_map(|_| {
        let _ = fs::remove_dir_all(&old_trail);
        copy(&directory(&vault), &old_trail);
        copy(&seal, &old_seal);
        let before = newest(&vault);
        thread::scope(|scope| {
            let early = scope.spawn(|| begun(&vault, before));
            let mut mount = vault.mount(&[]);
            mount.allow(Allow::Warnings);
            fs::write(mount.join("file"), b"content").unwrap();
            // A clean end would be seen to be undone.
            mount.kill9();
            let _ = mount.try_unmount();
            let (bytes, state) = early.join().unwrap();
            (state["unserved"] == true).then_some(bytes)
        })
    });
    let early = early.expect("a record of a mount that begins");
    replace(&directory(&vault), &old_trail);
    replace(&seal, &old_seal);
    fs::write(vault.path().join(".atrest/state.json"), early).unwrap();
    let refused = vault.try_mount(&[]).err().expect("a mount of what was put back");
    assert_eq!(refused.code(), 11, "{refused}");
    assert!(
        refused.stderr.contains("served nobody, and this machine knows that it did"),
        "{refused}"
    );
}

/// By the seal of a copy that was mounted as often, and without a trail.
#[test]
fn the_seal_of_a_copy_does_not_hide_a_mount() {
    require_root();
    let vault = Vault::init();
    vault.mount(&[]).unmount();
    let (copied, old_trail) = (vault.scratch().join("copy"), vault.scratch().join("old trail"));
    copy(&vault.path(), &copied);
    copy(&directory(&vault), &old_trail);
    let mount = vault.mount(&[]);
    fs::write(mount.join("file"), b"content").unwrap();
    mount.unmount();
    assert_whole(&vault);
    let mut mount = vault.command(&["mount", "--no-trail"]);
    run(mount.arg(&copied).arg(vault.mountpoint())).ok();
    run(vault.command(&["umount"]).arg(vault.mountpoint())).ok();

    replace(&directory(&vault), &old_trail);
    replace(&vault.path().join(".atrest/trail.json"), &copied.join(".atrest/trail.json"));
    let said = trail(&vault, "verify", "");
    one_sentence(&said, 3, "the trail was changed");
    assert!(said.stdout.contains("mount 2 has no line of the beginning"), "{said}");
}
