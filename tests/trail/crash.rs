//! What of the trail is there after the daemon was killed, or after an unmount.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::mounted::kill_and_wait;
use crate::common::{Allow, Vault, require, require_root};
use crate::{assert_whole, lines};

const OPENERS: usize = 3;

/// Opens a file again and again until that fails; when each open returned. Between them it leaves
/// the processors to others, so that what is measured is the trail and not the scheduler.
fn open_until_it_fails(path: PathBuf, stop: &AtomicBool) -> Vec<Instant> {
    let mut returned = Vec::new();
    while !stop.load(Ordering::Relaxed) && File::open(&path).is_ok() {
        returned.push(Instant::now());
        thread::sleep(Duration::from_micros(300));
    }
    returned
}

fn recorded(vault: &Vault, opener: usize) -> usize {
    lines(vault, &format!("--path file-{opener} --event Decrypt")).len()
}

/// Kills the daemon under load. Returns how long before that the last open returned that is not in
/// the trail; `None` where all are.
fn lost_before_kill(options: &[&str], moment: Duration) -> Option<Duration> {
    let vault = Vault::init();
    let mut mount = vault.mount(options);
    for opener in 0..OPENERS {
        fs::write(mount.join(format!("file-{opener}")), b"content").unwrap();
    }
    let (pid, stop) = (mount.pid(), AtomicBool::new(false));
    let (killed, returned) = thread::scope(|scope| {
        let openers: Vec<_> = (0..OPENERS)
            .map(|opener| {
                let path = mount.join(format!("file-{opener}"));
                let stop = &stop;
                scope.spawn(move || open_until_it_fails(path, stop))
            })
            .collect();
        thread::sleep(moment);
        let killed = Instant::now();
        kill_and_wait(pid);
        stop.store(true, Ordering::Relaxed);
        let returned: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
        (killed, returned)
    });
    mount.try_unmount().ok();
    let mut again = vault.mount(options);
    again.allow(Allow::Warnings);
    assert_whole(&vault);
    again.unmount();
    assert_whole(&vault);
    let lost = returned.iter().enumerate().filter_map(|(opener, returned)| {
        let there = recorded(&vault, opener);
        assert!(returned.len() > 20, "{} opens are no load", returned.len());
        // The first that is not there; and those that were under way may be.
        assert!(there <= returned.len() + 1, "{there} lines of {} opens", returned.len());
        returned.get(there).map(|first| killed.saturating_duration_since(*first))
    });
    lost.max()
}

#[test]
fn no_more_than_the_last_moment_is_lost() {
    require_root();
    let moments = [150, 330, 610, 870, 1240].map(Duration::from_millis);
    let mut lost: Vec<_> = moments.map(|moment| lost_before_kill(&[], moment)).to_vec();
    lost.sort();
    // A machine that does something else meanwhile may keep the thread from its rhythm, not always.
    assert!(lost[2] <= Some(Duration::from_millis(100)), "{lost:?}");
    assert!(lost[4] <= Some(Duration::from_secs(1)), "{lost:?}");
}

#[test]
fn nothing_is_lost_where_each_open_waits() {
    require_root();
    for moment in [200, 700].map(Duration::from_millis) {
        assert_eq!(lost_before_kill(&["--trail-sync"], moment), None);
    }
}

#[test]
fn an_unmount_loses_nothing() {
    require_root();
    const PROCESSES: usize = 6;
    const OPENS: usize = 400;
    let vault = Vault::init();
    for (known, options) in [&[][..], &["--no-writeback"]].into_iter().enumerate() {
        let mount = vault.mount(options);
        fs::write(mount.join("file"), b"content").unwrap();
        let script = format!("for i in $(seq {OPENS}); do : < file; done");
        let children: Vec<_> = (0..PROCESSES)
            .map(|_| {
                let mut shell = Command::new(require("sh"));
                shell.args(["-c", &script]).current_dir(mount.path()).stdout(Stdio::null());
                shell.spawn().unwrap()
            })
            .collect();
        let pids: Vec<_> = children.iter().map(|child| u64::from(child.id())).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        mount.unmount();
        let all = lines(&vault, "--path file --event Decrypt");
        assert_eq!(all.len(), (known + 1) * PROCESSES * OPENS);
        for pid in pids {
            let of_it = all.iter().filter(|line| line["userIdentity"]["pid"] == pid);
            assert_eq!(of_it.count(), OPENS);
        }
        assert_whole(&vault);
    }
}
