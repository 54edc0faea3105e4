//! The threads that make requests: the program that each runs, and whether it waits in an open(2) that
//! truncates. A daemon that is confined asks its monitor; any other process reads /proc.

use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::monitor::channel::Channel;
use super::monitor::queries::{Query, YES, query};
use super::proc::process::{
    ThreadName, open_name, open_program, read_name, read_program, waits_in_truncating_open,
};

/// So soon after its last request a thread runs the same program: some 4 us of it go to answering the one
/// request and taking the next, and an execve(2) of the smallest program alone takes 22 us (where this was
/// measured), most of them after the program's own file was opened.
const SAME_PROGRAM_WITHIN: Duration = Duration::from_micros(12);
/// After so long a program is read again, though [`Proof::Name`] is unchanged: the thread may run another
/// program of the same name, or the program's file may have another name.
const MAX_AGE: Duration = Duration::from_millis(100);

/// Asked instead of /proc.
static MONITOR: OnceLock<Channel> = OnceLock::new();

/// From now on this process asks at the other end of `channel`. The first one stays.
pub(super) fn ask_monitor(channel: Channel) {
    let _ = MONITOR.set(channel);
}

/// What is known of a thread.
struct Known {
    thread: u32,
    last_request: Instant,
    read: Instant,
    proof: Proof,
    program: Arc<str>,
}

/// What shows that a thread still runs the program. Reading it takes no lock that a program can hold, as
/// that of its memory, and keeps none of its memory: a program could make the daemon wait for itself, or
/// for ever.
enum Proof {
    /// The link in /proc.
    Link(OwnedFd),
    /// /proc/PID/comm, and its content before the program was asked for: execve(2) sets it to the name of
    /// the new program's file.
    Name(OwnedFd, ThreadName),
    /// None: /proc hides the thread from this process (proc(5), hidepid).
    Nothing,
}

/// Threads that are remembered at most, each of which keeps a descriptor.
const SLOTS: usize = 64;
/// What is known of the threads that made the last requests, by their numbers.
static KNOWN: [Mutex<Option<Known>>; SLOTS] = [const { Mutex::new(None) }; SLOTS];

/// The program that a thread runs now, as far as /proc shows it.
pub fn program_of(thread: u32) -> Option<Arc<str>> {
    let slot = &KNOWN[thread as usize % SLOTS];
    // The slot is not locked during the reads: requests of other threads use it too.
    let known = slot.lock().take().filter(|known| known.thread == thread);
    let known = known.and_then(|mut known| {
        let now = Instant::now();
        if now - known.last_request >= SAME_PROGRAM_WITHIN || now - known.read >= MAX_AGE {
            known = known.refresh(now)?;
        }
        known.last_request = now;
        Some(known)
    });
    let known = known.or_else(|| Known::read(thread))?;
    let program = Arc::clone(&known.program);
    *slot.lock() = Some(known);
    Some(program)
}

impl Known {
    /// What is known `now`; `None` where all has to be read anew.
    fn refresh(mut self, now: Instant) -> Option<Self> {
        match &self.proof {
            Proof::Link(link) => (self.program, self.read) = (read_program(link)?, now),
            Proof::Name(comm, name) if now - self.read < MAX_AGE && read_name(comm)? == *name => {}
            Proof::Name(..) | Proof::Nothing => return None,
        }
        Some(self)
    }

    fn read(thread: u32) -> Option<Self> {
        let (program, proof) = if let Some(monitor) = MONITOR.get() {
            // Before the query, so that after an exec meanwhile the name differs.
            let comm = open_name(thread);
            let name = comm.and_then(|comm| read_name(&comm).map(|name| (comm, name)));
            let answer = monitor.ask(&query(Query::Program, thread)).ok()?;
            let [YES, program @ ..] = answer.as_slice() else { return None };
            let proof = name.map_or(Proof::Nothing, |(comm, name)| Proof::Name(comm, name));
            (String::from_utf8_lossy(program).into(), proof)
        } else {
            let link = open_program(thread)?;
            (read_program(&link)?, Proof::Link(link))
        };
        let now = Instant::now();
        Some(Self { thread, last_request: now, read: now, proof, program })
    }
}

/// Whether a thread waits in an open(2) for writing that truncates the file.
///
/// The arguments are those with which the thread entered the kernel, and it can't change them (proc(5),
/// syscall). `false` too where they can't be read: of a thread that may not be traced, of openat2(2),
/// whose flags lie elsewhere, of io_uring and of NFS.
pub fn is_truncating_open(thread: u32) -> bool {
    match MONITOR.get() {
        Some(monitor) => {
            let answer = monitor.ask(&query(Query::IsTruncatingOpen, thread));
            answer.is_ok_and(|answer| answer == [YES])
        }
        None => waits_in_truncating_open(thread),
    }
}
