//! A mounted vault: unmounted when the value goes, also when the test fails half-way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::process::{Outcome, run_within, wait_until};
use super::users::is_root;
use super::vault::{Vault, bare};

/// How long a mount, an unmount or a death may take: an unmount makes what was written durable, and
/// other programs may write to the same disk meanwhile.
const LIMIT: Duration = Duration::from_secs(300);

/// What a test lets pass in the daemon's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allow {
    /// No line of WARN or ERROR: what every test begins with.
    Nothing,
    /// Lines of WARN: after a crash that the test has caused.
    Warnings,
    /// Lines of ERROR too: damage that the test has done.
    Errors,
}

pub struct Mounted {
    vault: Vault,
    mountpoint: PathBuf,
    log: PathBuf,
    state: State,
    allow: Allow,
    expected: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Mounted,
    /// The daemon was killed; the mount point is stale.
    Stale,
    Unmounted,
}

impl Mounted {
    #[track_caller]
    pub fn mount(vault: &Vault, options: &[&str]) -> Mounted {
        Mounted::try_mount(vault, options).unwrap_or_else(|outcome| panic!("{outcome}"))
    }

    #[track_caller]
    pub fn try_mount(vault: &Vault, options: &[&str]) -> Result<Mounted, Outcome> {
        Mounted::try_mount_with(vault, options, run_command)
    }

    /// Mounts by a command that `wrap` has changed: run by another user, say, or under a limit.
    #[track_caller]
    pub fn try_mount_with(
        vault: &Vault,
        options: &[&str],
        wrap: impl FnOnce(Command) -> Outcome,
    ) -> Result<Mounted, Outcome> {
        let (mountpoint, log) = (vault.mountpoint(), vault.next_log());
        if !bare() {
            let mut command = vault.command(&["mount"]);
            command.arg(vault.path()).arg(&mountpoint).arg("--log-file").arg(&log).args(options);
            let outcome = wrap(command);
            if !outcome.success() {
                return Err(outcome);
            }
        }
        Ok(Mounted {
            vault: vault.clone(),
            mountpoint,
            log,
            state: State::Mounted,
            allow: Allow::Nothing,
            expected: Vec::new(),
        })
    }

    /// The mount point.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(name)
    }

    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// From here on the log may hold lines of these levels.
    pub fn allow(&mut self, allow: Allow) -> &mut Mounted {
        self.allow = self.allow.max(allow);
        self
    }

    /// The log must, at the unmount, hold a line of WARN or ERROR with this text, and may hold many.
    pub fn expect_line(&mut self, text: &str) -> &mut Mounted {
        self.expected.push(text.to_owned());
        self
    }

    /// What the daemon has logged so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// `atrest status MOUNTPOINT --json`.
    #[track_caller]
    pub fn status_json(&self) -> serde_json::Value {
        let outcome = run_command(self.on_mountpoint(&["status", "--json"])).ok();
        serde_json::from_str(&outcome.stdout)
            .unwrap_or_else(|e| panic!("status is no JSON: {e}: {outcome}"))
    }

    /// How often the daemon was asked for a FUSE operation, by the name that status gives it.
    #[track_caller]
    pub fn operations(&self, name: &str) -> u64 {
        self.status_json()["operations"][name].as_u64().unwrap_or(0)
    }

    /// The daemon's process.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        let status = self.status_json();
        let pid = status["pid"].as_u64().unwrap_or_else(|| panic!("no pid in {status}"));
        u32::try_from(pid).expect("a pid")
    }

    /// The daemon's resident memory in KiB.
    #[track_caller]
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()))
            .expect("the daemon's status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a figure")
    }

    /// Kills the daemon and waits until it is dead. The mount point is then stale, until
    /// [`Mounted::remount`] or the end of the test.
    #[track_caller]
    pub fn kill9(&mut self) {
        kill_and_wait(self.pid());
        self.state = State::Stale;
        self.check_log();
    }

    /// Mounts again: after [`Mounted::kill9`] over the stale mount point, as a person would; else
    /// after an unmount. What the test allowed or expected in the log holds for the old mount only.
    #[track_caller]
    pub fn remount(mut self, options: &[&str]) -> Mounted {
        if self.state == State::Mounted {
            self.unmount_now();
        }
        let vault = self.vault.clone();
        let new = Mounted::mount(&vault, options);
        // The stale mount below the new one is gone, or the drop of `new` would find it.
        self.state = State::Unmounted;
        new
    }

    /// `atrest umount`; the log is then looked through. The drop does the same.
    #[track_caller]
    pub fn unmount(mut self) {
        self.unmount_now();
    }

    /// `atrest umount`, for a test that wants to see it fail; the mount then stays.
    #[track_caller]
    pub fn try_unmount(&mut self) -> Outcome {
        let outcome = run_within(LIMIT, &mut self.on_mountpoint(&["umount"]));
        if outcome.success() {
            self.state = State::Unmounted;
        }
        outcome
    }

    /// The test has unmounted it, or a stale mount point, by other means.
    pub fn forget(&mut self) {
        self.state = State::Unmounted;
    }

    #[track_caller]
    fn unmount_now(&mut self) {
        if bare() {
            self.state = State::Unmounted;
            return;
        }
        self.try_unmount().ok();
        assert!(
            !is_mounted(&self.mountpoint),
            "umount returned 0 and {} is mounted",
            self.mountpoint.display()
        );
        self.check_log();
    }

    fn on_mountpoint(&self, args: &[&str]) -> Command {
        let mut command = self.vault.command(args);
        command.arg(&self.mountpoint);
        command
    }

    /// Fails if a line of the log is louder than the test allows, or an expected one is missing.
    #[track_caller]
    fn check_log(&self) {
        let log = self.log();
        let loud: Vec<&str> = log.lines().filter(|line| loudness(line) > Allow::Nothing).collect();
        for text in &self.expected {
            let found = loud.iter().any(|line| line.contains(text.as_str()));
            assert!(found, "no WARN or ERROR line with {text:?} in the daemon's log:\n{log}");
        }
        let is_expected =
            |line: &str| self.expected.iter().any(|text| line.contains(text.as_str()));
        let stray: Vec<&str> = loud
            .into_iter()
            .filter(|line| loudness(line) > self.allow && !is_expected(line))
            .collect();
        assert!(stray.is_empty(), "the daemon logged what no test expects:\n{}", stray.join("\n"));
    }

    /// Takes the mount away by force: the test has failed, or the mount is stale.
    fn tear_down(&self) {
        for pid in daemons_of(&self.mountpoint) {
            kill_and_wait(pid);
        }
        for _ in 0..10 {
            if !is_mounted(&self.mountpoint) {
                return;
            }
            detach(&self.mountpoint);
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if bare() || self.state == State::Unmounted {
            return;
        }
        if thread::panicking() {
            eprintln!("--- the daemon's log ({})\n{}", self.log.display(), tail(&self.log(), 60));
            self.tear_down();
        } else if self.state == State::Stale {
            self.tear_down();
        } else {
            let outcome = self.try_unmount();
            if !outcome.success() {
                self.tear_down();
                panic!("{outcome}");
            }
            self.check_log();
        }
    }
}

fn run_command(mut command: Command) -> Outcome {
    run_within(LIMIT, &mut command)
}

/// How loud a line of the log is, by the level's word in it.
fn loudness(line: &str) -> Allow {
    let has =
        |level: &str| line.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == level);
    if has("ERROR") || line.contains("panicked at") {
        Allow::Errors
    } else if has("WARN") {
        Allow::Warnings
    } else {
        Allow::Nothing
    }
}

/// Whether something is mounted there, a stale mount among it. It asks /proc, since a stat of a
/// stale mount point fails.
pub fn is_mounted(mountpoint: &Path) -> bool {
    // Other tests' names need not be text. Of this thread, which may have a mount namespace of its own.
    let mounts = fs::read("/proc/thread-self/mounts").expect("/proc/thread-self/mounts");
    let mounts = String::from_utf8_lossy(&mounts);
    mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == mountpoint))
}

/// The live processes that run a binary named atrest with this mount point among their arguments.
pub fn daemons_of(mountpoint: &Path) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let pids =
        processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = arguments.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"atrest")
            && words.any(|word| word == mountpoint.as_os_str().as_encoded_bytes())
    })
    .collect()
}

/// Kills a process and waits until it can do nothing more: gone, or a zombie that nobody reaps.
pub fn kill_and_wait(pid: u32) {
    let Some(process) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return };
    let _ = kill_process(process, Signal::KILL);
    let dead = wait_until(LIMIT, || is_dead(process).then_some(()));
    assert!(dead.is_some(), "process {pid} survives kill -9");
}

/// Whether a process has ended, reaped or not.
pub fn is_dead(process: Pid) -> bool {
    if test_kill_process(process).is_err() {
        return true;
    }
    let stat =
        fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    match stat.rsplit_once(')') {
        // All threads must be gone, or one of them may still be in a write.
        Some((_, rest)) => rest.trim_start().starts_with(['Z', 'X']) && threads_of(process) <= 1,
        None => true,
    }
}

fn threads_of(process: Pid) -> usize {
    fs::read_dir(format!("/proc/{}/task", process.as_raw_nonzero())).map_or(0, Iterator::count)
}

/// Detaches a mount, by the means that the user has.
fn detach(mountpoint: &Path) {
    if is_root() {
        let _ = unmount(mountpoint, UnmountFlags::DETACH);
    } else {
        let _ = Command::new("fusermount3").arg("-uz").arg(mountpoint).status();
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
