//! What /proc tells of a thread that asks for something: the program that it runs, and the call in
//! which it waits. Both take the right to trace it (proc(5), ptrace(2)), which a process under Landlock
//! has of no other: the daemon asks its monitor.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::fs::{Mode, OFlags};

use super::monitor::channel::{self, Channel};

/// So soon after it asked for something else a thread runs the same program: some 4 us of it go to
/// answering the one request and taking the next, and an execve(2) of the smallest program alone takes
/// 22 us (where this was measured), most of them after the program's own file was opened.
const SOON: Duration = Duration::from_micros(12);
/// What [`Proof::Name`] does not show is noticed after so long at most: that a thread runs another program
/// under the same name, or that the
/// program's file has another name.
const STALE: Duration = Duration::from_millis(100);
/// How long an answer of the monitor's is waited for, which takes 20 us where a processor is free.
const PATIENCE: Duration = Duration::from_millis(250);

/// Who is asked instead of /proc.
static MONITOR: OnceLock<Channel> = OnceLock::new();

/// A channel on which [`answer_daemon`] is asked.
pub(super) fn channel() -> std::io::Result<(Channel, OwnedFd)> {
    Channel::new(Some(PATIENCE))
}

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

/// What tells that a thread still runs the program. Reading it takes no lock that a program can hold, as
/// that of its memory, and keeps none of its memory: it could make the daemon wait for itself, or for ever.
enum Proof {
    /// The link in /proc. It says at each reading what the thread runs then, and goes with the
    /// thread: another of its number has another.
    Link(OwnedFd),
    /// /proc/PID/comm, and what it said before the program was asked for: execve(2) has it say the name
    /// of the new program's file. It goes with the thread, too.
    Name(OwnedFd, Name),
    /// Nothing: it may not be seen here (proc(5), hidepid).
    Nothing,
}

/// The name of a thread and a line feed, in the kernel's limits (linux/sched.h, TASK_COMM_LEN).
type Name = [u8; 32];

/// Threads that are remembered at most, each of which keeps a descriptor.
const SLOTS: usize = 64;
/// What was found of threads that asked lately, by their numbers.
static LOOKED: [Mutex<Option<Looked>>; SLOTS] = [const { Mutex::new(None) }; SLOTS];

/// The program that a thread runs now, as far as /proc tells.
pub fn program_of(thread: u32) -> Option<Arc<str>> {
    let slot = &LOOKED[thread as usize % SLOTS];
    // The slot is not locked during the look: requests of other threads use it too.
    let known = slot.lock().take().filter(|known| known.thread == thread);
    let known = known.and_then(|mut known| {
        let now = Instant::now();
        if now - known.asked >= SOON || now - known.read >= STALE {
            known = known.again(now)?;
        }
        known.asked = now;
        Some(known)
    });
    let looked = known.or_else(|| look(thread))?;
    let program = Arc::clone(&looked.program);
    *slot.lock() = Some(looked);
    Some(program)
}

impl Looked {
    /// What it is `now`; `None` where all is to be looked at anew.
    fn again(mut self, now: Instant) -> Option<Self> {
        match &self.proof {
            Proof::Link(link) => (self.program, self.read) = (read_link(link)?, now),
            Proof::Name(comm, name) if now - self.read < STALE && read_name(comm)? == *name => {}
            Proof::Name(..) | Proof::Nothing => return None,
        }
        Some(self)
    }
}

fn look(thread: u32) -> Option<Looked> {
    let (program, proof) = match MONITOR.get() {
        Some(monitor) => {
            // First, so that a thread that execs meanwhile has another name than it tells of.
            let comm = open(thread, "comm", OFlags::RDONLY);
            let name = comm.and_then(|comm| read_name(&comm).map(|name| (comm, name)));
            let answer = monitor.ask(&question(PROGRAM, thread)).ok()?;
            let [KNOWN, program @ ..] = answer.as_slice() else { return None };
            let proof = name.map_or(Proof::Nothing, |(comm, name)| Proof::Name(comm, name));
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

fn read_name(comm: &OwnedFd) -> Option<Name> {
    let mut name = Name::default();
    rustix::io::pread(comm, &mut name, 0).ok().map(|_| name)
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
            answer.is_ok_and(|answer| answer == [KNOWN])
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

/// The most threads that answer.
const MOST: usize = 8;

/// The threads that answer a daemon. Where one waits for a process that it looks at, which may be for
/// ever, another takes the next question.
struct Answering<S> {
    socket: S,
    threads: AtomicUsize,
    /// How many of them are free.
    free: AtomicUsize,
    empties: fn(u32) -> bool,
    /// Called when nobody asks any more, by each thread.
    ended: fn(),
}

/// Answers the questions of a daemon until it ends; then `ended` is called, whatever other threads are at.
pub(super) fn answer_daemon(socket: impl AsFd + Send + Sync + 'static, ended: fn()) {
    answer(socket, waits_in_emptying, ended);
}

fn answer(socket: impl AsFd + Send + Sync + 'static, empties: fn(u32) -> bool, ended: fn()) {
    let (threads, free) = (AtomicUsize::new(1), AtomicUsize::new(1));
    Arc::new(Answering { socket, threads, free, empties, ended }).answer();
}

impl<S: AsFd + Send + Sync + 'static> Answering<S> {
    fn answer(self: Arc<Self>) {
        // Either end comes with the daemon's.
        let _ = channel::answer_all(self.socket.as_fd(), |question| {
            let is_last = self.free.fetch_sub(1, Ordering::Relaxed) == 1;
            let may_wait = !is_last || self.has_another();
            let answer = self.answer_one(question, may_wait);
            self.free.fetch_add(1, Ordering::Relaxed);
            answer
        });
        (self.ended)();
    }

    /// Starts one more thread, unless there are too many.
    fn has_another(self: &Arc<Self>) -> bool {
        if self.threads.fetch_add(1, Ordering::Relaxed) < MOST {
            self.free.fetch_add(1, Ordering::Relaxed);
            let more = Arc::clone(self);
            let name = "callers".to_owned();
            if thread::Builder::new().name(name).spawn(move || more.answer()).is_ok() {
                return true;
            }
            self.free.fetch_sub(1, Ordering::Relaxed);
        }
        self.threads.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// Neither file can be read while the process execs, which may be for ever, as while its
    /// descriptors are closed on a FUSE mount: kernels hold exec_update_lock until then.
    fn answer_one(&self, question: &[u8], may_wait: bool) -> Vec<u8> {
        let nothing = vec![UNKNOWN];
        let Ok([kind, number @ ..]) = <[u8; 5]>::try_from(question) else { return nothing };
        let thread = u32::from_ne_bytes(number);
        match kind {
            _ if !may_wait => nothing,
            PROGRAM => {
                let link = open(thread, "exe", OFlags::PATH | OFlags::NOFOLLOW);
                let Some(program) = link.and_then(|link| read_link(&link)) else { return nothing };
                [&[KNOWN], program.as_bytes()].concat()
            }
            EMPTIES if (self.empties)(thread) => vec![KNOWN],
            _ => nothing,
        }
    }
}

#[cfg(test)]
mod tests {
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

    /// What tells of a program says at once that it is another, or gone.
    #[test]
    fn the_name_of_a_program_goes_with_it() {
        use std::io::{BufRead, BufReader, Write};
        use std::process::Stdio;

        let (channel, answers) = channel().unwrap();
        let served = thread::spawn(move || answer_daemon(answers, || ()));
        let mut child = Command::new("sh")
            .args(["-c", "echo ready; read line; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let asked = question(PROGRAM, child.id());
        let program = || {
            let answer = channel.ask(&asked).unwrap();
            assert_eq!(answer[0], KNOWN);
            String::from_utf8(answer[1..].to_vec()).unwrap()
        };
        assert!(!program().ends_with("/cat"));
        let comm = open(child.id(), "comm", OFlags::RDONLY).unwrap();
        let before = read_name(&comm).unwrap();
        assert_eq!(read_name(&comm), Some(before));
        child.stdin.as_mut().unwrap().write_all(b"go\nagain\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "again");
        assert_ne!(read_name(&comm).unwrap(), before);
        assert!(program().ends_with("cat"));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(read_name(&comm), None);
        assert_eq!(channel.ask(&question(PROGRAM, u32::MAX)).unwrap(), [UNKNOWN]);
        drop(channel);
        served.join().unwrap();
    }

    /// A process that can't be looked at keeps no answer about others from coming.
    #[test]
    fn a_look_that_never_ends_is_left_alone() {
        const STUCK: u32 = 1;
        let empties = |thread| {
            if thread == STUCK {
                loop {
                    thread::park();
                }
            }
            true
        };
        let (channel, answers) = Channel::new(Some(Duration::from_millis(300))).unwrap();
        thread::spawn(move || answer(answers, empties, || ()));
        // On a busy machine a thread may not come to it in time.
        let ask = |kind, thread| {
            (0..100).find_map(|_| channel.ask(&question(kind, thread)).ok()).unwrap()
        };
        for _ in 1..MOST {
            assert_eq!(ask(EMPTIES, 2), [KNOWN]);
            channel.ask(&question(EMPTIES, STUCK)).unwrap_err();
        }
        let own = std::process::id();
        for (kind, thread) in [(EMPTIES, STUCK), (EMPTIES, 2), (PROGRAM, own)] {
            assert_eq!(ask(kind, thread), [UNKNOWN]);
        }
    }
}
