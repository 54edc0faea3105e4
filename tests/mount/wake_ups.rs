//! What a mount takes of the machine while little or nothing is asked of it, and where it may run.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::common::{Mounted, Vault};

fn threads(mount: &Mounted) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", mount.pid())).unwrap();
    tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

/// How often the threads that answer requests have gone to sleep: as often as they woke up.
fn sleeps(mount: &Mounted) -> u64 {
    let pid = mount.pid();
    let asked = |thread: u32| {
        let task = PathBuf::from(format!("/proc/{pid}/task/{thread}"));
        let name = fs::read_to_string(task.join("comm")).unwrap_or_default();
        let status = fs::read_to_string(task.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = line.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
        if name.starts_with("fuser-") || name.starts_with("slow") { count } else { 0 }
    };
    threads(mount).into_iter().map(asked).sum()
}

/// Asks for so many names that are not there, one every 21 ms.
fn ask_slowly(mount: &Mounted, kind: &str, times: u32) {
    for number in 0..times {
        thread::sleep(Duration::from_millis(21));
        assert!(!mount.join(format!("{kind}-{number}")).exists());
    }
}

#[test]
fn nobody_wakes_up_for_nothing_and_one_thread_for_one_request() {
    for options in [&[][..], &["--spin", "0"]] {
        let mount = Vault::init().mount(options);
        fs::write(mount.join("file"), b"x").unwrap();
        // Each thread reads the device before it stands by for the first time.
        ask_slowly(&mount, "first", 20);
        thread::sleep(Duration::from_secs(1));
        let before = sleeps(&mount);
        thread::sleep(Duration::from_secs(3));
        let idle = sleeps(&mount) - before;
        assert!(idle <= 3, "{options:?}: {idle} wake-ups in 3 s without a request");
        let before = sleeps(&mount);
        ask_slowly(&mount, "slowly", 96);
        let each = (sleeps(&mount) - before) as f64 / 96.0;
        assert!(each < 1.7, "{options:?}: {each} wake-ups for a request");
    }
}

/// taskset(1) on a mount that works: what it says stays.
#[test]
fn where_the_daemon_may_run_is_for_others_to_say() {
    let allowed = sched_getaffinity(None).unwrap();
    let Some(first) = (0..CpuSet::MAX_CPU).find(|&number| allowed.is_set(number)) else { return };
    let mut one = CpuSet::new();
    one.set(first);
    let mount = Vault::init().mount(&[]);
    let work = |time| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            fs::write(mount.join("file"), b"x").unwrap();
            fs::read(mount.join("file")).unwrap();
        }
    };
    work(Duration::from_millis(500));
    let pid = |thread: u32| Pid::from_raw(thread as i32);
    thread::scope(|scope| {
        scope.spawn(|| work(Duration::from_secs(1)));
        thread::sleep(Duration::from_millis(200));
        for thread in threads(&mount) {
            sched_setaffinity(pid(thread), &one).unwrap();
        }
    });
    work(Duration::from_millis(500));
    for thread in threads(&mount) {
        let now = sched_getaffinity(pid(thread)).unwrap();
        assert!(now == one, "thread {thread} runs where it was not told to: {now:?}");
    }
}
