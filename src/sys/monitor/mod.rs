//! The monitor: a process beside the daemon that does the few things for which the daemon would have to
//! keep rights that it is better without. It runs this program anew, so that it has nothing of the
//! daemon's memory, and none of its descriptors but two sockets.

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

/// What it is called in a list of processes.
const NAME: &str = "atrest-monitor";
/// The only argument with which it is started.
pub const ARGUMENT: &str = "--monitor-of-a-daemon";

/// What it may: unmount and reach the mount point, and look at the processes that ask.
const KEPT: CapabilitySet =
    CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_PTRACE).union(CapabilitySet::DAC_READ_SEARCH);

/// The daemon's side.
#[derive(Debug)]
pub struct Monitor {
    channel: Channel,
    process: Child,
}

impl Monitor {
    /// Starts it. What /proc tells of those who ask comes from it from now on.
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

    /// Asks it for something.
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

/// The other side, in a process that was started by [`Monitor::start`]: answers what is asked about
/// those who ask the daemon, in a thread of its own, and by `answer` what else is asked, until the
/// daemon has ended.
///
/// # Errors
/// What keeps it from beginning.
pub fn serve_daemon(answer: impl FnMut(&[u8]) -> Vec<u8>) -> io::Result<()> {
    // It ends when the daemon does: not by a signal to the daemon's group, its terminal or its service.
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT].into_iter().for_each(ignore);
    let _ = setsid();
    // SAFETY: nothing in this process owns a descriptor yet.
    unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    keep_only(KEPT)?;
    std::thread::Builder::new().name("callers".to_owned()).spawn(serve_callers)?;
    channel::answer_all(io::stdout().as_fd(), answer)
}

/// While the daemon's end may be busy elsewhere: an umount2(2) waits until what the kernel has of
/// the mount is written, by a daemon that asks here who wrote it.
fn serve_callers() {
    // Nobody is left to be answered, whatever the other threads are at.
    answer_queries(io::stdin(), || std::process::exit(0));
}
