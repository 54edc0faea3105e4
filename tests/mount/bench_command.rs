//! `atrest bench`: it measures, says so, and leaves nothing behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::common::mounted::{daemons_of, is_mounted};
use crate::common::vault::binary;
use crate::common::{Scratch, run, wait_until};

const ROWS: [&str; 8] =
    ["write", "read", "random_read", "random_write", "create", "stat", "small_read", "delete"];

fn bench(directory: &Path) -> Command {
    let mut command = Command::new(binary());
    command.arg("bench").arg(directory).arg("--json").env_remove("RUST_LOG");
    command
}

#[track_caller]
fn nothing_left(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn it_measures_and_leaves_nothing() {
    let scratch = Scratch::new();
    let outcome = run(&mut bench(scratch.path())).ok();
    let report: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let positive = |value: &serde_json::Value| {
        assert!(value.as_f64().is_some_and(|figure| figure > 0.0), "{value} in {report:#}");
    };
    positive(&report["processors"]);
    assert!(report["machine"].is_string() && report["directory"].is_string());
    for cipher in ["aes-gcm", "aws-lc"] {
        positive(&report["processor"]["ciphers"][cipher]["seal_gb_per_s"]);
        positive(&report["processor"]["ciphers"][cipher]["open_gb_per_s"]);
    }
    for figure in ["block_seal_us", "block_open_us", "header_open_us"] {
        positive(&report["processor"][figure]);
    }
    for row in ROWS {
        positive(&report["mounted"][row]["mounted"]);
        positive(&report["mounted"][row]["bare"]);
        assert!(report["mounted"][row]["unit"].as_str().unwrap().ends_with("/s"));
    }
    assert_eq!(report["mounted"].as_object().unwrap().len(), ROWS.len());
    nothing_left(scratch.path());
}

#[test]
fn interrupted_it_leaves_nothing() {
    for signal in [Signal::INT, Signal::TERM] {
        let scratch = Scratch::new();
        let mut child = bench(scratch.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("atrest bench");
        let mountpoint = wait_until(Duration::from_secs(60), || mounted_below(scratch.path()));
        let mountpoint = mountpoint.expect("a mount");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let ended = wait_until(Duration::from_secs(60), || child.try_wait().unwrap());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(ended.and_then(|status| status.code()), Some(1), "{said}");
        assert_eq!(said, "atrest: interrupted: nothing was left behind\n");
        assert!(output.stdout.is_empty());
        nothing_left(scratch.path());
        assert!(!is_mounted(&mountpoint) && daemons_of(&mountpoint).is_empty());
    }
}

/// The mount point of the vault that a bench has made in `directory`, when it is mounted.
fn mounted_below(directory: &Path) -> Option<PathBuf> {
    let made = fs::read_dir(directory).unwrap().flatten().next()?;
    let mountpoint = made.path().join("mnt");
    is_mounted(&mountpoint).then_some(mountpoint)
}

#[test]
fn a_directory_that_is_not_there_is_refused() {
    let scratch = Scratch::new();
    let outcome = run(&mut bench(&scratch.join("nowhere"))).fails();
    assert_eq!(outcome.code(), 1);
    assert!(outcome.stderr.contains("nowhere") && outcome.stderr.lines().count() == 1);
    nothing_left(scratch.path());
}
