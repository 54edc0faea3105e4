//! The daemon's process: forking into the background, and keeping its secrets.

use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};

use rustix::process::{
    DumpableBehavior, Pid, Resource, Rlimit, WaitOptions, set_dumpable_behavior, setrlimit, setsid,
    waitpid,
};

use super::proc::own::count_threads;

/// Which of the two processes this is, after [`fork_to_background`].
pub enum Forked {
    /// The process that was started; it waits for the other.
    Parent(Starting),
    /// The process that is to become the daemon.
    Child(Background),
}

/// Splits the process in two. The child still has the terminal, the session and the working
/// directory of its parent, so that it can report errors, until [`Background::detach`].
///
/// # Errors
/// Those of pipe(2) and fork(2), and any process that already has threads: a fork would copy the
/// locks that they hold and not the threads.
pub fn fork_to_background() -> io::Result<Forked> {
    require_one_thread()?;
    let (ready_reader, ready_writer) = io::pipe()?;
    // SAFETY: fork(2) has no preconditions on memory; the process has one thread, checked above,
    // so that no lock is held in the child by a thread that isn't there.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            super::locked::lock_after_fork();
            Ok(Forked::Child(Background { ready: ready_writer }))
        }
        child => match Pid::from_raw(child) {
            Some(child) => Ok(Forked::Parent(Starting { child, ready: ready_reader })),
            None => Err(io::Error::other("fork(2) gave no process")),
        },
    }
}

/// Checks that this process has one thread.
///
/// # Errors
/// When it has more; those of reading /proc.
pub(super) fn require_one_thread() -> io::Result<()> {
    match count_threads()? {
        1 => Ok(()),
        _ => Err(io::Error::other("the process has threads by now")),
    }
}

/// The parent's side: a child that is starting.
pub struct Starting {
    child: Pid,
    ready: PipeReader,
}

impl Starting {
    /// Waits until the child reports that it is ready.
    ///
    /// # Errors
    /// The exit status of a child that ended instead, after it printed the reason; a child that a
    /// signal ended has none.
    pub fn wait(mut self) -> Result<(), Option<i32>> {
        let mut byte = [0];
        if matches!(self.ready.read(&mut byte), Ok(1)) {
            return Ok(());
        }
        loop {
            match waitpid(Some(self.child), WaitOptions::empty()) {
                Ok(Some((_, status))) => return Err(status.exit_status()),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(None),
            }
        }
    }
}

/// The child's side: a process that has yet to leave its terminal.
pub struct Background {
    ready: PipeWriter,
}

impl Background {
    /// Leaves the terminal (a session of its own, `/` as the working directory,
    /// `/dev/null` as the three standard streams) and reports to the parent that it is ready.
    ///
    /// # Errors
    /// Those of setsid(2), chdir(2), dup2(2) and of opening `/dev/null`.
    pub fn detach(mut self) -> io::Result<()> {
        setsid()?;
        std::env::set_current_dir("/")?;
        let null = fs::File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        // The mount goes on without a parent that was killed meanwhile.
        let _ = self.ready.write_all(&[1]);
        Ok(())
    }
}

/// Keeps the process's memory, and the keys in it, from core dumps and from other processes of
/// the same user (prctl(2) PR_SET_DUMPABLE, setrlimit(2) RLIMIT_CORE).
///
/// # Errors
/// Those of the two calls.
pub fn keep_secrets() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
