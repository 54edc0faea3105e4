//! What /proc tells of a thread that asks for something: the program that it runs, and the call in
//! which it waits. Both take the right to trace it (proc(5), ptrace(2)), which a process under Landlock
//! has of no other: the daemon asks its monitor.

use std::cell::RefCell;
use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};

use super::channel::{self, Channel};

/// So soon after it asked for something else a thread runs the same program: some 4 us of it go to
/// answering the one request and taking the next, and an execve(2) of the smallest program alone takes
/// 22 us (where this was measured), most of them after the program's own file was opened.
const SOON: Duration = Duration::from_micros(12);
/// A program's file may get another name while it runs, which is told after so long at most.
const STALE: Duration = Duration::from_millis(10);

/// Who is asked instead of /proc.
static MONITOR: OnceLock<Channel> = OnceLock::new();

/// From now on this process asks there.
pub(super) fn ask_monitor(channel: Channel) {
    // There is one to a process; a second one is not asked.
    let _ = MONITOR.set(channel);
}

/// What was found when a thread's program was looked at.
struct Looked {
    thread: u32,
    /// When it asked for something last.
    asked: Instant,
    read: Instant,
    proof: Proof,
    program: Arc<str>,
}

/// What tells that a thread still runs the program.
enum Proof {
    /// The link in /proc. It says at each reading what the thread runs then, and goes with the
    /// thread: another of its number has another.
    Link(OwnedFd),
    /// /proc/PID/maps, which a thread that ended no longer has, and which is empty once the memory
    /// that it had at the open is given up: by execve(2).
    Memory(OwnedFd),
    /// Nothing: it shares its memory with another process.
    Nothing,
}

/// The program that a thread runs now, as far as /proc tells.
pub fn program_of(thread: u32) -> Option<Arc<str>> {
    thread_local! {
        static LAST: RefCell<Option<Looked>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        let known = last.take().filter(|last| last.thread == thread).and_then(|mut last| {
            let now = Instant::now();
            if now - last.asked >= SOON || now - last.read >= STALE {
                last = last.again(now)?;
            }
            last.asked = now;
            Some(last)
        });
        *last = known.or_else(|| look(thread));
        last.as_ref().map(|last| Arc::clone(&last.program))
    })
}

impl Looked {
    /// What it is `now`; `None` where all is to be looked at anew.
    fn again(mut self, now: Instant) -> Option<Self> {
        match &self.proof {
            Proof::Link(link) => (self.program, self.read) = (read_link(link)?, now),
            Proof::Memory(maps) if now - self.read < STALE => {
                let mut byte = [0];
                if rustix::io::pread(maps, &mut byte, 0) != Ok(1) {
                    return None;
                }
            }
            Proof::Memory(_) | Proof::Nothing => return None,
        }
        Some(self)
    }
}

fn look(thread: u32) -> Option<Looked> {
    let (program, proof) = match MONITOR.get() {
        Some(monitor) => {
            let answer = monitor.ask(&question(PROGRAM, thread)).ok()?;
            let [KNOWN, program @ ..] = answer.bytes.as_slice() else { return None };
            let proof = answer.descriptor.map_or(Proof::Nothing, Proof::Memory);
            (String::from_utf8_lossy(program).into(), proof)
        }
        None => {
            let link = open(thread, "exe", OFlags::PATH | OFlags::NOFOLLOW)?;
            (read_link(&link)?, Proof::Link(link))
        }
    };
    let now = Instant::now();
    Some(Looked { thread, asked: now, read: now, proof, program })
}

fn open(thread: u32, file: &str, flags: OFlags) -> Option<OwnedFd> {
    rustix::fs::open(format!("/proc/{thread}/{file}"), flags | OFlags::CLOEXEC, Mode::empty()).ok()
}

fn read_link(link: &OwnedFd) -> Option<Arc<str>> {
    let path = rustix::fs::readlinkat(link, "", Vec::with_capacity(256)).ok()?;
    Some(Arc::from(path.to_string_lossy()))
}

/// Whether a thread waits in an open(2) for writing that empties the file.
///
/// The numbers are those with which the thread entered the kernel, and it can't change them (proc(5),
/// syscall). `false` too where they can't be seen: of a thread that may not be traced, of openat2(2),
/// whose flags lie elsewhere, of io_uring and of NFS.
pub fn is_emptying(thread: u32) -> bool {
    match MONITOR.get() {
        Some(monitor) => {
            let answer = monitor.ask(&question(EMPTIES, thread));
            answer.is_ok_and(|answer| answer.bytes == [KNOWN])
        }
        None => waits_in_emptying(thread),
    }
}

fn waits_in_emptying(thread: u32) -> bool {
    fs::read_to_string(format!("/proc/{thread}/syscall")).is_ok_and(|line| empties(&line))
}

/// Whether a line of /proc/PID/syscall, the number and then the arguments, is such an open.
fn empties(line: &str) -> bool {
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

/// A question is one of these and a thread's number.
const PROGRAM: u8 = b'p';
const EMPTIES: u8 = b'e';
/// How an answer begins.
const KNOWN: u8 = b'y';
const UNKNOWN: u8 = b'n';

fn question(kind: u8, thread: u32) -> [u8; 5] {
    let [a, b, c, d] = thread.to_ne_bytes();
    [kind, a, b, c, d]
}

/// Answers the questions of a daemon until it ends.
pub(super) fn answer_daemon(socket: BorrowedFd<'_>) {
    let answer = |question: &[u8]| {
        let nothing = (vec![UNKNOWN], None);
        let Ok([kind, number @ ..]) = <[u8; 5]>::try_from(question) else { return nothing };
        let thread = u32::from_ne_bytes(number);
        match kind {
            PROGRAM => {
                // First, so that a thread that execs meanwhile has another memory than it tells of.
                let maps = open(thread, "maps", OFlags::RDONLY);
                let link = open(thread, "exe", OFlags::PATH | OFlags::NOFOLLOW);
                let Some(program) = link.and_then(|link| read_link(&link)) else { return nothing };
                let mut answer = vec![KNOWN];
                answer.extend_from_slice(program.as_bytes());
                (answer, maps.filter(|_| !shares_memory(thread)))
            }
            EMPTIES if waits_in_emptying(thread) => (vec![KNOWN], None),
            _ => nothing,
        }
    };
    // Either end comes with the daemon's.
    let _ = channel::answer_all(socket, answer);
}

/// Whether a process that has not run a program of its own yet has the memory of its parent, as
/// after vfork(2): that memory outlives its execve(2).
fn shares_memory(thread: u32) -> bool {
    /// Of the flags in /proc/PID/stat (linux/sched.h).
    const PF_FORKNOEXEC: u64 = 0x40;
    /// Of kcmp(2).
    const KCMP_VM: libc::c_int = 1;
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap_or_default();
    let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    let parent = fields.nth(1).and_then(|field| field.parse::<u32>().ok());
    let flags = fields.nth(4).and_then(|field| field.parse::<u64>().ok());
    let (Some(parent), Some(flags)) = (parent, flags) else { return true };
    if flags & PF_FORKNOEXEC == 0 {
        return false;
    }
    // SAFETY: the call takes numbers alone.
    let order = unsafe { libc::syscall(libc::SYS_kcmp, thread, parent, KCMP_VM, 0, 0) };
    // Where it can't be told, it may.
    !matches!(order, 1..=3)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    #[test]
    fn an_open_that_empties_is_told_from_others() {
        let openat = |flags: libc::c_int| {
            format!(
                "{} 0xffffff9c 0x7f00 {flags:#x} 0x1b6 0x0 0x0 0x7ffe 0x7f01\n",
                libc::SYS_openat
            )
        };
        assert!(empties(&openat(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)));
        assert!(empties(&openat(libc::O_RDWR | libc::O_TRUNC)));
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
            assert!(!empties(line), "{line}");
        }
    }

    /// What the monitor passes on says at once that the program is another, or gone.
    #[test]
    fn the_memory_of_a_program_goes_with_it() {
        use std::io::{BufRead, BufReader, Write};
        use std::process::Stdio;

        let (channel, answers) = Channel::new().unwrap();
        let served = std::thread::spawn(move || answer_daemon(answers.as_fd()));
        let mut child = Command::new("sh")
            .args(["-c", "echo ready; read line; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let asked = question(PROGRAM, child.id());
        let ask = || channel.ask(&asked).unwrap();
        let program = |bytes: &[u8]| String::from_utf8(bytes[1..].to_vec()).unwrap();
        let before = ask();
        assert!(before.bytes[0] == KNOWN && !program(&before.bytes).ends_with("/cat"));
        let reads = |maps: &OwnedFd| rustix::io::pread(maps, &mut [0], 0);
        let maps = before.descriptor.expect("a child that ran a program shares no memory");
        assert_eq!(reads(&maps), Ok(1));
        child.stdin.as_mut().unwrap().write_all(b"go\nagain\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "again");
        assert_eq!(reads(&maps), Ok(0));
        let after = ask();
        assert!(program(&after.bytes).ends_with("cat"), "{after:?}");
        let maps = after.descriptor.unwrap();
        assert_eq!(reads(&maps), Ok(1));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_ne!(reads(&maps), Ok(1));
        assert_eq!(channel.ask(&question(PROGRAM, u32::MAX)).unwrap().bytes, [UNKNOWN]);
        drop(channel);
        served.join().unwrap();
    }

    #[test]
    fn a_thread_shares_no_memory_with_the_parent_of_its_process() {
        assert!(!shares_memory(rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned()));
        assert!(shares_memory(u32::MAX));
    }
}
