//! Acting as another user, within the test's own process.

use std::panic;
use std::thread;

use rustix::fs::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// Fails, and says why, unless the test runs as root.
#[track_caller]
pub fn require_root() {
    assert!(is_root(), "this test needs root: run scripts/test.sh, which says how");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this root has CAP_SYS_RESOURCE: in a container it may not.
pub fn may_raise_limits() -> bool {
    const CAP_SYS_RESOURCE: u32 = 24;
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("CapEff");
    let effective = u64::from_str_radix(line.trim(), 16).expect("a mask");
    effective & (1 << CAP_SYS_RESOURCE) != 0
}

/// Somebody: a user, their group and their other groups. No entry in /etc/passwd is needed.
#[derive(Clone, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl User {
    /// A user who is in one group of the same number.
    pub fn new(uid: u32) -> User {
        User { uid, gid: uid, groups: vec![uid] }
    }

    pub fn with_groups(mut self, groups: &[u32]) -> User {
        self.groups = groups.to_vec();
        self
    }

    /// Does `work` as this user, without capabilities, and returns its result. Linux keeps
    /// credentials by thread, so a thread takes them on for good and ends with the work; the rest
    /// of the process stays who it was.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let done = thread::scope(|scope| {
            let act = || {
                self.become_user();
                work()
            };
            scope.spawn(act).join()
        });
        done.unwrap_or_else(|failure| panic::resume_unwind(failure))
    }

    fn become_user(&self) {
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        set_thread_groups(&groups).expect("setgroups");
        set_thread_res_gid(Some(gid), Some(gid), Some(gid)).expect("setresgid");
        set_thread_res_uid(Some(uid), Some(uid), Some(uid)).expect("setresuid");
    }
}
