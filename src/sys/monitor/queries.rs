//! What the daemon asks its monitor about the threads that make requests: their program, and the call in
//! which they wait. Both take the right to trace them (proc(5), ptrace(2)), which a process under Landlock
//! has of no other.
//!
//! A query is one byte and a thread's number. An answer begins with [`YES`] or [`NO`].

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::channel::{self, Channel};
use crate::sys::proc::process::{open_program, read_program, waits_in_truncating_open};

/// How long an answer is waited for. One takes 20 us where a processor is free.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

/// A query of the daemon.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Query {
    /// The program that a thread runs. Its path follows [`YES`].
    Program = b'p',
    /// Whether a thread waits in an open(2) for writing that truncates the file.
    IsTruncatingOpen = b'e',
}

pub const YES: u8 = b'y';
const NO: u8 = b'n';

/// The bytes of a query.
pub fn query(query: Query, thread: u32) -> [u8; 5] {
    let [a, b, c, d] = thread.to_ne_bytes();
    [query as u8, a, b, c, d]
}

/// A channel for queries, and the end at which [`answer_queries`] answers them.
///
/// # Errors
/// Those of socketpair(2).
pub fn query_channel() -> io::Result<(Channel, OwnedFd)> {
    Channel::new(Some(ANSWER_TIMEOUT))
}

/// The most threads that answer.
const MAX_THREADS: usize = 8;

/// The threads that answer a daemon. While one waits for a process that it examines, which may be for
/// ever, another takes the next query.
struct Answering<S> {
    socket: S,
    threads: AtomicUsize,
    /// How many of them are free.
    free: AtomicUsize,
    is_truncating_open: fn(u32) -> bool,
    /// Called by each thread when the daemon has ended.
    ended: fn(),
}

/// Answers the queries of a daemon until it ends. Then `ended` is called, whatever other threads wait for.
pub fn answer_queries(socket: impl AsFd + Send + Sync + 'static, ended: fn()) {
    answer_with(socket, waits_in_truncating_open, ended);
}

fn answer_with(
    socket: impl AsFd + Send + Sync + 'static,
    is_truncating_open: fn(u32) -> bool,
    ended: fn(),
) {
    let (threads, free) = (AtomicUsize::new(1), AtomicUsize::new(1));
    Arc::new(Answering { socket, threads, free, is_truncating_open, ended }).answer();
}

impl<S: AsFd + Send + Sync + 'static> Answering<S> {
    fn answer(self: Arc<Self>) {
        // An error and the end both come with the daemon's end.
        let _ = channel::answer_all(self.socket.as_fd(), |query| {
            let is_last = self.free.fetch_sub(1, Ordering::Relaxed) == 1;
            let may_wait = !is_last || self.add_thread();
            let answer = if may_wait { self.answer_one(query) } else { None };
            self.free.fetch_add(1, Ordering::Relaxed);
            answer.unwrap_or_else(|| vec![NO])
        });
        (self.ended)();
    }

    /// Starts one more thread; `false` where there are too many.
    fn add_thread(self: &Arc<Self>) -> bool {
        if self.threads.fetch_add(1, Ordering::Relaxed) < MAX_THREADS {
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
    fn answer_one(&self, query: &[u8]) -> Option<Vec<u8>> {
        let [kind, thread @ ..] = <[u8; 5]>::try_from(query).ok()?;
        let thread = u32::from_ne_bytes(thread);
        if kind == Query::Program as u8 {
            let program = read_program(&open_program(thread)?)?;
            return Some([&[YES], program.as_bytes()].concat());
        }
        let is_known = kind == Query::IsTruncatingOpen as u8;
        (is_known && (self.is_truncating_open)(thread)).then(|| vec![YES])
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::super::proc::process::{open_name, read_name};
    use super::*;

    /// The name changes as soon as the program does, and is gone with it.
    #[test]
    fn the_name_of_a_program_goes_with_it() {
        use std::io::{BufRead, BufReader, Write};
        use std::process::Stdio;

        let (channel, answers) = query_channel().unwrap();
        let served = thread::spawn(move || answer_queries(answers, || ()));
        let mut child = Command::new("sh")
            .args(["-c", "echo ready; read line; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "ready");
        let asked = query(Query::Program, child.id());
        let program = || {
            let answer = channel.ask(&asked).unwrap();
            assert_eq!(answer[0], YES);
            String::from_utf8(answer[1..].to_vec()).unwrap()
        };
        assert!(!program().ends_with("/cat"));
        let comm = open_name(child.id()).unwrap();
        let before = read_name(&comm).unwrap();
        assert_eq!(read_name(&comm), Some(before));
        child.stdin.as_mut().unwrap().write_all(b"go\nagain\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "again");
        assert_ne!(read_name(&comm).unwrap(), before);
        assert!(program().ends_with("cat"));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(read_name(&comm), None);
        assert_eq!(channel.ask(&query(Query::Program, u32::MAX)).unwrap(), [NO]);
        drop(channel);
        served.join().unwrap();
    }

    /// A process that can't be examined delays no answer about others.
    #[test]
    fn a_query_that_never_ends_delays_no_other() {
        const STUCK: u32 = 1;
        let is_truncating_open = |thread| {
            if thread == STUCK {
                loop {
                    thread::park();
                }
            }
            true
        };
        let (channel, answers) = Channel::new(Some(Duration::from_millis(300))).unwrap();
        thread::spawn(move || answer_with(answers, is_truncating_open, || ()));
        // On a busy machine a thread may not come to it in time.
        let ask =
            |kind, thread| (0..100).find_map(|_| channel.ask(&query(kind, thread)).ok()).unwrap();
        for _ in 1..MAX_THREADS {
            assert_eq!(ask(Query::IsTruncatingOpen, 2), [YES]);
            channel.ask(&query(Query::IsTruncatingOpen, STUCK)).unwrap_err();
        }
        let own = std::process::id();
        for (kind, thread) in
            [(Query::IsTruncatingOpen, STUCK), (Query::IsTruncatingOpen, 2), (Query::Program, own)]
        {
            assert_eq!(ask(kind, thread), [NO]);
        }
    }
}
