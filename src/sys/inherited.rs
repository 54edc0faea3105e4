//! What a process inherits, set to what a filesystem's daemon needs: signals, descriptors, limits,
//! scheduling, the path of programs.

use std::env;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::path::Path;
use std::ptr;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};

use super::proc::own::descriptors;
use super::process::require_one_thread;
use super::signals::{is_ignored, set_action};

/// Descriptors above the three standard ones that were open when the process began.
#[derive(Debug)]
pub struct InheritedDescriptors(Vec<RawFd>);

impl InheritedDescriptors {
    /// Notes them. To be called before the program opens a file that it keeps.
    pub fn note() -> Self {
        let above: Vec<RawFd> = descriptors().filter(|fd| *fd > 2).collect();
        // The one through which the directory was read is closed by now.
        Self(above.into_iter().filter(|fd| is_open(*fd)).collect())
    }

    /// Closes them. Otherwise a pipe's reader would wait for the daemon's end, and a disk could not be
    /// unmounted.
    pub fn close(self) {
        for fd in self.0 {
            // SAFETY: it was open before the program opened anything, so nothing here owns it.
            unsafe { libc::close(fd) };
        }
    }
}

fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes any number and touches no memory.
    unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }
}

/// Sets the signals and the umask of a program that was just started to known values. No signal is blocked.
/// All have their default action but these: SIGXFSZ and SIGPIPE are ignored, so that the call fails with
/// EFBIG or EPIPE, and those of the terminal stay ignored in a program that nohup(1) or a shell's `&` has
/// started. (signal(7))
///
/// With an inherited SIGCHLD that is ignored, the exit status of children would be lost; with a umask for the
/// owner, the daemon's rights to the files of a vault.
pub fn reset_process() {
    let owner = rustix::fs::Mode::RWXU;
    let inherited = umask(owner.complement());
    umask(inherited - owner);
    const OF_TERMINAL: [i32; 3] = [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT];
    for signal in 1..=libc::SIGRTMAX() {
        if is_ignored(signal) && signal != libc::SIGPIPE && !OF_TERMINAL.contains(&signal) {
            set_action(signal, libc::SIG_DFL);
        }
    }
    set_action(libc::SIGXFSZ, libc::SIG_IGN);
    let mut none = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; the old mask is not asked for.
    unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
    }
}

/// A limit with which the daemon can't work, and which this user may not raise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Its option of ulimit(1).
    pub option: &'static str,
    /// What it limits.
    pub of: &'static str,
    /// Seconds or bytes.
    pub value: u64,
    /// What the daemon needs; `None` where no limit is enough.
    pub needs: Option<u64>,
}

/// Address space of a daemon with the buffers, stacks and malloc arenas of all its threads.
const ADDRESS_SPACE: u64 = 2 << 30;
/// The part of it that is written.
const DATA: u64 = 512 << 20;
/// Descriptors for which the kernel has room from the start, 8 bytes each.
const ROOM: u64 = 4096;
/// What the main thread's stack may grow to.
const STACK: u64 = 8 << 20;

/// Sets what a daemon needs: file modes as the callers give them (umask 0), as many descriptors as
/// the hard limit allows, and no limit on time, file size or memory. (getrlimit(2))
///
/// # Errors
/// The first limit that stays and would end the daemon, or fail it in the middle of its work.
pub fn prepare_daemon() -> Result<(), Limit> {
    umask(rustix::fs::Mode::empty());
    // Not raised, the limit is the one that the daemon was started with: it works within it.
    raise_to_hard(Resource::Nofile);
    make_room_for_descriptors();
    let stack = getrlimit(Resource::Stack);
    if stack.current.is_some_and(|current| current < STACK) {
        let current = Some(stack.maximum.unwrap_or(STACK).min(STACK));
        let _ = setrlimit(Resource::Stack, Rlimit { current, ..stack });
    }
    // One that stays makes write(2) fail, as it does for the program that wrote.
    let _ = unlimit(Resource::Fsize);
    let needed = [
        (Resource::Cpu, "-t", "processor time", None),
        (Resource::As, "-v", "address space", Some(ADDRESS_SPACE)),
        (Resource::Data, "-d", "data", Some(DATA)),
    ];
    for (resource, option, of, needs) in needed {
        let left = unlimit(resource);
        if let Some(value) = left
            && needs.is_none_or(|needs| value < needs)
        {
            return Err(Limit { option, of, value, needs });
        }
    }
    keep_no_low_priority();
    Ok(())
}

/// Has the kernel make its table of descriptors as large as most mounts need, while the process has
/// one thread. With more it makes all of them wait for milliseconds, whenever the table gets too
/// small (expand_fdtable in fs/file.c).
fn make_room_for_descriptors() {
    let last =
        getrlimit(Resource::Nofile).current.map_or(ROOM, |limit| limit.min(ROOM)).saturating_sub(1);
    if let Ok(any) = fs::File::open("/") {
        // Closed at once. Where it fails, the table grows later.
        drop(rustix::io::fcntl_dupfd_cloexec(&any, last as RawFd));
    }
}

fn raise_to_hard(resource: Resource) -> Option<u64> {
    let limit = getrlimit(resource);
    // Raising the soft limit as far as the hard one is always allowed.
    let _ = setrlimit(resource, Rlimit { current: limit.maximum, ..limit });
    limit.maximum
}

/// Lifts a limit; returns the one that stays.
fn unlimit(resource: Resource) -> Option<u64> {
    setrlimit(resource, Rlimit { current: None, maximum: None })
        .map_or_else(|_| raise_to_hard(resource), |()| None)
}

/// A daemon serves everybody who uses the mount, so it does not keep a priority below the usual
/// that its starter had: nice(2), SCHED_BATCH and SCHED_IDLE of sched(7), the I/O priorities below
/// the default of ioprio_set(2). A higher one stays, and so does what the user may not raise.
fn keep_no_low_priority() {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_CLASS_SHIFT: libc::c_long = 13;
    const IOPRIO_CLASS_BE: libc::c_long = 2;
    const IOPRIO_CLASS_IDLE: libc::c_long = 3;
    const IOPRIO_DEFAULT_LEVEL: libc::c_long = 4;
    // SAFETY: the calls take numbers, and a pointer to a value that lives through the call.
    unsafe {
        if matches!(libc::sched_getscheduler(0), libc::SCHED_BATCH | libc::SCHED_IDLE) {
            let usual = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, libc::SCHED_OTHER, &raw const usual);
        }
        if libc::getpriority(libc::PRIO_PROCESS, 0) > 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        }
        let io = libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
        let (class, level) = (io >> IOPRIO_CLASS_SHIFT, io & 7);
        if class == IOPRIO_CLASS_IDLE || (class == IOPRIO_CLASS_BE && level > IOPRIO_DEFAULT_LEVEL)
        {
            libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
        }
    }
}

/// Takes from PATH the directories that are not `usable`: the one program that the daemon runs later,
/// fusermount3, is looked for nowhere else. All else that it reads of its environment it has read, and
/// a library that was preloaded may need the rest.
///
/// # Errors
/// Any process that has threads, which might read the environment meanwhile.
pub fn limit_path(usable: impl Fn(&Path) -> bool) -> io::Result<()> {
    require_one_thread()?;
    let path = env::var_os("PATH").unwrap_or_default();
    let usable = env::split_paths(&path).filter(|dir| dir.is_absolute() && usable(dir));
    let path = env::join_paths(usable).unwrap_or_default();
    // SAFETY: no other thread exists, checked above, that could read the environment.
    unsafe { env::set_var("PATH", path) };
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn an_open_descriptor_is_noted_and_a_closed_one_is_not() {
        let file = tempfile::tempfile().unwrap();
        assert!(InheritedDescriptors::note().0.contains(&file.as_raw_fd()));
        assert!(!is_open(i32::MAX));
    }
}
