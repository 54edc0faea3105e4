//! /proc/PID: other processes, and threads of any process.

use std::fs;
use std::os::fd::OwnedFd;
use std::str::FromStr;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

/// The state of a process in the third field of /proc/PID/stat: it has ended (proc_pid_stat(5)).
const ENDED: [char; 2] = ['Z', 'X'];

fn path(process: u32, file: &str) -> String {
    format!("/proc/{process}/{file}")
}

/// A field of /proc/PID/stat by its number, 3 or more.
fn stat_field<T: FromStr>(process: u32, number: usize) -> Option<T> {
    let stat = fs::read(path(process, "stat")).ok()?;
    // The second field is a name in brackets, of any bytes.
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let fields = str::from_utf8(&stat[end + 1..]).ok()?;
    fields.split_ascii_whitespace().nth(number - 3)?.parse().ok()
}

/// Whether a process exists and has not ended: a zombie has.
pub fn is_running(process: u32) -> bool {
    stat_field(process, 3).is_some_and(|state| !ENDED.contains(&state))
}

pub fn parent_of(process: u32) -> Option<u32> {
    stat_field(process, 4)
}

/// The CPU that a thread runs on, or ran on last.
pub fn cpu_of(thread: u32) -> Option<usize> {
    stat_field(thread, 39)
}

/// Whether a thread was killed and has not ended yet: SIGKILL is pending, which is also what any other
/// signal that ends a process becomes (signal(7), proc_pid_status(5)).
pub fn is_killed(thread: u32) -> bool {
    let Ok(status) = fs::read_to_string(path(thread, "status")) else { return false };
    let pending = |line: &str| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    };
    status.lines().filter_map(pending).any(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
}

/// A thread's supplementary groups (proc_pid_status(5)); `None` for one of another PID namespace.
pub fn groups_of(thread: u32) -> Option<Vec<u32>> {
    let status = fs::read_to_string(path(thread, "status")).ok()?;
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    groups.split_whitespace().map(|group| group.parse().ok()).collect()
}

/// A process's name, as ps(1) shows it.
pub fn name_of(process: u32) -> Option<String> {
    let name = fs::read_to_string(path(process, "comm")).ok()?;
    Some(name.trim_end().to_owned())
}

/// The arguments of a process, each with a NUL at its end.
pub fn arguments_of(process: u32) -> Option<Vec<u8>> {
    fs::read(path(process, "cmdline")).ok()
}

/// The link to a thread's program. Each [`read_program`] of it returns the program that the thread runs
/// then; it is gone with the thread, also where another thread gets the same number.
pub fn open_program(thread: u32) -> Option<OwnedFd> {
    open(thread, "exe", OFlags::PATH | OFlags::NOFOLLOW)
}

pub fn read_program(link: &OwnedFd) -> Option<Arc<str>> {
    let path = rustix::fs::readlinkat(link, "", Vec::with_capacity(256)).ok()?;
    Some(Arc::from(path.to_string_lossy()))
}

/// The name of a thread and a line feed, within the kernel's limit (linux/sched.h, TASK_COMM_LEN).
pub type ThreadName = [u8; 32];

/// The file with a thread's name. Like [`open_program`], it is gone with the thread.
pub fn open_name(thread: u32) -> Option<OwnedFd> {
    open(thread, "comm", OFlags::RDONLY)
}

pub fn read_name(comm: &OwnedFd) -> Option<ThreadName> {
    let mut name = ThreadName::default();
    rustix::io::pread(comm, &mut name, 0).ok().map(|_| name)
}

fn open(thread: u32, file: &str, flags: OFlags) -> Option<OwnedFd> {
    rustix::fs::open(path(thread, file), flags | OFlags::CLOEXEC, Mode::empty()).ok()
}

/// Whether a thread waits in an open(2) for writing that truncates the file, by /proc/PID/syscall.
pub fn waits_in_truncating_open(thread: u32) -> bool {
    fs::read_to_string(path(thread, "syscall")).is_ok_and(|line| is_truncating_open(&line))
}

/// Whether a line of /proc/PID/syscall, the number and then the arguments, is such an open.
fn is_truncating_open(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let number = words.next().and_then(|word| word.parse::<libc::c_long>().ok());
    let flags_at = match number {
        Some(libc::SYS_openat) => 2,
        #[cfg(target_arch = "x86_64")]
        Some(libc::SYS_open) => 1,
        #[cfg(target_arch = "x86_64")]
        Some(libc::SYS_creat) => return true,
        _ => return false,
    };
    let flags = words.nth(flags_at).and_then(|word| word.strip_prefix("0x"));
    let flags = flags.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let has = |flags: u64, flag: libc::c_int| flags & flag as u64 != 0;
    flags.is_some_and(|flags| has(flags, libc::O_TRUNC) && has(flags, libc::O_ACCMODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_was_not_killed() {
        let own = std::process::id();
        assert!(is_running(own) && !is_killed(own));
        assert_eq!(parent_of(own), rustix::process::getppid().map(|pid| pid.as_raw_pid() as u32));
        assert!(cpu_of(own).is_some() && name_of(own).is_some());
        assert!(!is_running(u32::MAX) && cpu_of(u32::MAX).is_none());
    }

    #[test]
    fn an_open_that_truncates_is_recognized() {
        let openat = |flags: libc::c_int| {
            format!(
                "{} 0xffffff9c 0x7f00 {flags:#x} 0x1b6 0x0 0x0 0x7ffe 0x7f01\n",
                libc::SYS_openat
            )
        };
        assert!(is_truncating_open(&openat(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)));
        assert!(is_truncating_open(&openat(libc::O_RDWR | libc::O_TRUNC)));
        for line in [
            &openat(libc::O_RDONLY | libc::O_TRUNC),
            &openat(libc::O_WRONLY | libc::O_APPEND),
            "running",
            "-1 0x7ffe 0x7f01",
            "",
            "257",
            &format!("{} 0x3 0x7f00 0x241 0x1b6 0x0 0x0 0x7ffe 0x7f01", libc::SYS_openat2),
            &format!("{} 0x241 0x241 0x241 0x241 0x241 0x241 0x1 0x1", libc::SYS_read),
        ] {
            assert!(!is_truncating_open(line), "{line}");
        }
    }
}
