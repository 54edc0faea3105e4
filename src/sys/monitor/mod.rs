//! The monitor: a process beside the daemon for the few operations that take rights which the daemon gives
//! up. It executes this program again, so that it has none of the daemon's memory, and two sockets as its
//! only descriptors.

pub(super) mod channel;
pub(super) mod queries;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::process::setsid;
use rustix::thread::CapabilitySet;

use super::callers;
use super::capability::keep_only;
use super::proc::own::PROGRAM;
use super::signals::ignore;
use channel::Channel;
use queries::{answer_queries, query_channel};

/// Its name in a list of processes.
const NAME: &str = "atrest-monitor";
/// The only argument with which it is started.
pub const ARGUMENT: &str = "--monitor-of-a-daemon";

/// The capabilities that it keeps: to unmount, to reach the mount point, and to examine the callers' processes.
const KEPT: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// The daemon's side.
#[derive(Debug)]
pub struct Monitor {
    channel: Channel,
    process: Child,
}

impl Monitor {
    /// Starts it. From now on `callers` asks it instead of reading /proc.
    ///
    /// # Errors
    /// Those of socketpair(2), fork(2) and execve(2).
    pub fn start() -> io::Result<Self> {
        let (looks, looks_end) = query_channel()?;
        // An unmount takes as long as the write-back of what was written.
        let (channel, end) = Channel::new(None)?;
        let process = Command::new(PROGRAM)
            .arg0(NAME)
            .arg(ARGUMENT)
            .current_dir("/")
            .stdin(Stdio::from(looks_end))
            .stdout(Stdio::from(end))
            .stderr(Stdio::null())
            .spawn()?;
        callers::ask_monitor(looks);
        Ok(Self { channel, process })
    }

    /// Asks it a question, and waits for the answer.
    ///
    /// # Errors
    /// When it has ended.
    pub fn ask(&self, question: &[u8]) -> io::Result<Vec<u8>> {
        self.channel.ask(question)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }
}

/// The monitor's side, in a process that was started by [`Monitor::start`]. Until the daemon has ended, it
/// answers queries about callers in threads of their own, and other questions by `answer`.
///
/// # Errors
/// Those of capset(2), of starting a thread, and of the sockets.
pub fn serve_daemon(answer: impl FnMut(&[u8]) -> Vec<u8>) -> io::Result<()> {
    // It ends with the daemon, and not by a signal to the daemon's group, terminal or service.
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT].into_iter().for_each(ignore);
    let _ = setsid();
    // SAFETY: nothing in this process owns a descriptor yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    keep_only(KEPT)?;
    std::thread::Builder::new().name("callers".to_owned()).spawn(serve_callers)?;
    channel::answer_all(io::stdout().as_fd(), answer)
}

/// Answers queries while the other thread may wait in umount2(2), which returns when the daemon has written
/// the kernel's dirty pages, for which the daemon sends queries.
fn serve_callers() {
    // The daemon is gone, whatever the other threads wait for.
    answer_queries(io::stdin(), || std::process::exit(0));
}
