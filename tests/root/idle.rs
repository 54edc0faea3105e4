//! A mount that nobody uses.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::common::{Vault, pattern, require_root};

/// How often the threads of a process went to sleep so far: once for each time they were woken.
fn sleeps(pid: u32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of_task = |status: String| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        line.trim().parse().ok()
    };
    tasks.filter_map(|task| of_task(fs::read_to_string(task.path().join("status")).ok()?)).sum()
}

/// Under one wake-up a second by all threads together: workers, control server, trail, schedule.
#[test]
fn it_sleeps() {
    require_root();
    let mount = Vault::init().mount(&[]);
    fs::write(mount.join("file"), pattern(0, 1 << 20)).unwrap();
    assert_eq!(fs::read(mount.join("file")).unwrap().len(), 1 << 20);
    let pid = mount.pid();
    // What the kernel has dirty is written back within 30 s; that is no idle mount.
    rustix::fs::syncfs(fs::File::open(mount.path()).unwrap()).unwrap();
    thread::sleep(Duration::from_secs(3));
    let before = sleeps(pid);
    thread::sleep(Duration::from_secs(10));
    let woken = sleeps(pid) - before;
    assert!(woken < 10, "woken {woken} times in 10 s");
}
