//! A control group with little memory, in which the daemon and a writer are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::users::may_raise_limits;
use crate::common::{Campaign, Mounted, Outcome, Vault, require_root, run_within, wait_until};

const LIMIT: u64 = 150 << 20;

/// A group with a limit on memory, of either version of control groups; removed on drop.
struct Group {
    path: PathBuf,
    /// The file that counts kills, and the word before their number.
    kills: (&'static str, &'static str),
}

impl Group {
    /// One of the version whose memory controller this machine has.
    fn new(name: &str) -> Option<Group> {
        let name = format!("atrest-test-{name}-{}", std::process::id());
        let one = Path::new("/sys/fs/cgroup/memory");
        if one.join("memory.limit_in_bytes").exists() {
            let path = one.join(name);
            fs::create_dir(&path).ok()?;
            let group = Group { path, kills: ("memory.oom_control", "oom_kill ") };
            fs::write(group.path.join("memory.limit_in_bytes"), LIMIT.to_string()).ok()?;
            return Some(group);
        }
        let two = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(two.join("cgroup.subtree_control")).ok()?;
        if !controllers.split_whitespace().any(|controller| controller == "memory") {
            return None;
        }
        let path = two.join(name);
        fs::create_dir(&path).ok()?;
        let group = Group { path, kills: ("memory.events", "oom_kill ") };
        fs::write(group.path.join("memory.max"), LIMIT.to_string()).ok()?;
        Some(group)
    }

    /// The command, run in the group.
    fn wrap(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        let script = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.path.display());
        shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(dir) = command.get_current_dir() {
            shell.current_dir(dir);
        }
        shell
    }

    fn run(&self, command: &Command) -> Outcome {
        run_within(Duration::from_secs(300), &mut self.wrap(command))
    }

    fn killed(&self) -> u64 {
        let (file, word) = self.kills;
        let text = fs::read_to_string(self.path.join(file)).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(word));
        line.unwrap().trim().parse().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let removed = wait_until(Duration::from_secs(10), || fs::remove_dir(&self.path).ok());
        if removed.is_none() {
            eprintln!("{} stays", self.path.display());
        }
    }
}

/// Writes and reads a file of many times the group's memory, by programs that are in the group;
/// the daemon is too, or is not.
fn write_and_read(name: &str, daemon_inside: bool) {
    require_root();
    let Some(group) = Group::new(name) else {
        eprintln!("not tested: no memory controller that may be used here");
        return;
    };
    let mib = Campaign::pick(600, 2000);
    let vault = Vault::init();
    let wrap = |mut command: Command| match daemon_inside {
        true => group.run(&command),
        false => run_within(Duration::from_secs(60), &mut command),
    };
    let mount = Mounted::try_mount_with(&vault, &[], wrap).unwrap_or_else(|out| panic!("{out}"));
    let dd = |from: &Path, to: &Path| {
        let (from, to) = (format!("if={}", from.display()), format!("of={}", to.display()));
        let mut dd = Command::new("dd");
        dd.args([&from, &to, "bs=1M", &format!("count={mib}")]);
        let began = Instant::now();
        group.run(&dd).ok();
        mib as f64 / began.elapsed().as_secs_f64()
    };
    let written = dd(Path::new("/dev/zero"), &mount.join("file"));
    drop_caches();
    let read = dd(&mount.join("file"), Path::new("/dev/null"));
    assert_eq!(group.killed(), 0, "the out-of-memory killer came");
    assert_eq!(fs::metadata(mount.join("file")).unwrap().len(), (mib as u64) << 20);
    let resident = mount.resident_kib() / 1024;
    Campaign::report(format!(
        "{mib} MiB in a group of 150 MiB (daemon inside: {daemon_inside}): {written:.0} MiB/s \
         written, {read:.0} read, the daemon has {resident} MiB"
    ));
    assert!(resident < 100, "the daemon has {resident} MiB");
    mount.unmount();
}

fn drop_caches() {
    // Without it what is read is only less of a test.
    let _ = fs::write("/proc/sys/vm/drop_caches", "1");
}

#[test]
fn daemon_and_writer_share_a_group_with_little_memory() {
    write_and_read("both", true);
}

#[test]
fn a_writer_has_little_memory_and_the_daemon_all() {
    write_and_read("writer", false);
}

/// What the daemon asked for itself, where it may.
#[test]
fn the_daemon_is_spared_when_memory_is_short() {
    require_root();
    if !may_raise_limits() {
        eprintln!("not tested: this root has no CAP_SYS_RESOURCE");
        return;
    }
    let mount = Vault::init().mount(&[]);
    let score = fs::read_to_string(format!("/proc/{}/oom_score_adj", mount.pid())).unwrap();
    assert!(score.trim().parse::<i32>().unwrap() <= -900, "{score}");
}
