//! Lets system calls of a daemon fail, or something happen before them: each that touches the test's
//! scratch directory is counted, and the n-th one gets an error, is cut short, takes its time, or finds
//! the vault changed. By seccomp's user notification (seccomp_unotify(2)), which no library or runtime
//! of the daemon can pass by.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Error(i32),
    /// A write does a part of its work, and the next one fails with this error; other calls fail.
    ShortWrite(i32),
    /// A read gives a part of what was asked for; other calls succeed.
    ShortRead,
    /// The call is done late.
    Delay(Duration),
}

/// Which calls fail, counted from when this was armed.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub fault: Fault,
    /// How many succeed before.
    pub after: usize,
    /// How many fail from there on.
    pub times: usize,
}

/// What is done in the daemon's place while it waits in a call.
type Step = Box<dyn FnOnce() + Send>;

/// The calls that can fail. Their first argument names a file by descriptor, or a directory from
/// which their second one leads.
const CALLS: &[(&str, i64)] = &[
    ("pread64", libc::SYS_pread64),
    ("pwrite64", libc::SYS_pwrite64),
    ("write", libc::SYS_write),
    ("ftruncate", libc::SYS_ftruncate),
    ("fallocate", libc::SYS_fallocate),
    ("fsync", libc::SYS_fsync),
    ("fdatasync", libc::SYS_fdatasync),
    ("syncfs", libc::SYS_syncfs),
    ("sync_file_range", libc::SYS_sync_file_range),
    ("openat", libc::SYS_openat),
    ("openat2", libc::SYS_openat2),
    ("mkdirat", libc::SYS_mkdirat),
    ("mknodat", libc::SYS_mknodat),
    ("unlinkat", libc::SYS_unlinkat),
    ("linkat", libc::SYS_linkat),
    ("symlinkat", libc::SYS_symlinkat),
    ("readlinkat", libc::SYS_readlinkat),
    ("renameat", libc::SYS_renameat),
    ("renameat2", libc::SYS_renameat2),
    ("utimensat", libc::SYS_utimensat),
    ("fchmod", libc::SYS_fchmod),
    ("fchmodat", libc::SYS_fchmodat),
    ("fchown", libc::SYS_fchown),
    ("fchownat", libc::SYS_fchownat),
    ("fstat", libc::SYS_fstat),
    ("newfstatat", libc::SYS_newfstatat),
    ("statx", libc::SYS_statx),
    ("fstatfs", libc::SYS_fstatfs),
    ("getdents64", libc::SYS_getdents64),
    ("lseek", libc::SYS_lseek),
    ("fsetxattr", libc::SYS_fsetxattr),
    ("fgetxattr", libc::SYS_fgetxattr),
    ("flistxattr", libc::SYS_flistxattr),
    ("fremovexattr", libc::SYS_fremovexattr),
];

/// More calls that [`Injector::step`] stops at: their first argument is a path.
const CALLS_BY_PATH: &[(&str, i64)] = &[
    ("setxattr", libc::SYS_setxattr),
    ("lsetxattr", libc::SYS_lsetxattr),
    ("getxattr", libc::SYS_getxattr),
    ("lgetxattr", libc::SYS_lgetxattr),
    ("listxattr", libc::SYS_listxattr),
    ("llistxattr", libc::SYS_llistxattr),
    ("removexattr", libc::SYS_removexattr),
    ("lremovexattr", libc::SYS_lremovexattr),
];

/// Of these some processors have those alone that begin at a directory.
#[cfg(target_arch = "x86_64")]
const OLD_CALLS_BY_PATH: &[(&str, i64)] = &[
    ("open", libc::SYS_open),
    ("stat", libc::SYS_stat),
    ("lstat", libc::SYS_lstat),
    ("access", libc::SYS_access),
    ("mkdir", libc::SYS_mkdir),
    ("rmdir", libc::SYS_rmdir),
    ("unlink", libc::SYS_unlink),
    ("rename", libc::SYS_rename),
    ("link", libc::SYS_link),
    ("readlink", libc::SYS_readlink),
    ("chmod", libc::SYS_chmod),
    ("chown", libc::SYS_chown),
    ("lchown", libc::SYS_lchown),
    ("truncate", libc::SYS_truncate),
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_CALLS_BY_PATH: &[(&str, i64)] = &[];

/// Calls of a socket that [`Injector::step`] stops at: their second argument is an address.
const CALLS_BY_ADDRESS: &[(&str, i64)] =
    &[("bind", libc::SYS_bind), ("connect", libc::SYS_connect)];

/// A call that was let through, and the files that it names.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: &'static str,
    pub paths: Vec<PathBuf>,
}

#[derive(Clone)]
pub struct Injector(Arc<Shared>);

struct Shared {
    root: PathBuf,
    also: Vec<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    plan: Option<Plan>,
    /// Before which call something is done, and what.
    step: Option<(usize, Option<Step>)>,
    calls: Option<Vec<Call>>,
    seen: usize,
    /// The descriptor's file on which a write was cut short, and the error that follows.
    owed: Option<(PathBuf, i32)>,
    failed: Vec<String>,
}

impl Injector {
    /// For daemons that [`Injector::wrap`] starts; what counts is what lies below `root`, save its
    /// `log` and `mnt`.
    pub fn new(root: &Path) -> Injector {
        Injector::with(root, &[])
    }

    /// [`Injector::new`] for which what lies below `also` counts, too.
    pub fn with(root: &Path, also: &[&Path]) -> Injector {
        let also = also.iter().map(|path| (*path).to_owned()).collect();
        Injector(Arc::new(Shared { root: root.to_owned(), also, state: Mutex::default() }))
    }

    /// From here on calls are counted and fail.
    pub fn arm(&self, plan: Plan) {
        *self.0.state.lock() = State { plan: Some(plan), ..State::default() };
    }

    /// From here on calls are counted, by path and through /proc too. Before the one with number
    /// `at`, from 0 on, `act` is done, while its thread waits.
    pub fn step(&self, at: usize, act: impl FnOnce() + Send + 'static) {
        let step = Some((at, Some(Box::new(act) as Step)));
        *self.0.state.lock() = State { step, ..State::default() };
    }

    /// From here on calls are kept as [`Injector::step`] counts them, for [`Injector::recorded`].
    pub fn record(&self) {
        let state = State { step: Some((0, None)), calls: Some(Vec::new()), ..State::default() };
        *self.0.state.lock() = state;
    }

    /// The calls since [`Injector::record`].
    pub fn recorded(&self) -> Vec<Call> {
        std::mem::take(&mut *self.0.state.lock()).calls.unwrap_or_default()
    }

    /// All succeeds again. How many calls there were, and those that failed.
    pub fn heal(&self) -> (usize, Vec<String>) {
        let state = std::mem::take(&mut *self.0.state.lock());
        (state.seen, state.failed)
    }

    /// Puts the process that `command` starts, and all that it starts, under this one's watch.
    pub fn wrap(&self, command: &mut Command) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let filter = filter();
        let watch = {
            let injector = self.clone();
            move || {
                let mut message = [0_u8; 8];
                io::Read::read_exact(&mut (&ours), &mut message).unwrap();
                let number =
                    |at: usize| i32::from_ne_bytes(message[at..at + 4].try_into().unwrap());
                let process = pidfd_open(Pid::from_raw(number(0)).unwrap(), PidfdFlags::empty());
                let listener =
                    pidfd_getfd(process.unwrap(), number(4), PidfdGetfdFlags::empty()).unwrap();
                io::Write::write_all(&mut (&ours), &[1]).unwrap();
                injector.serve(&listener);
            }
        };
        thread::spawn(watch);
        // SAFETY: only system calls that are safe between fork and exec.
        unsafe { command.pre_exec(move || install(theirs.as_raw_fd(), &filter)) };
    }

    /// Answers until nobody is under watch any more.
    fn serve(&self, listener: &OwnedFd) {
        loop {
            let mut poll =
                libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd, which lives.
            unsafe { libc::poll(&raw mut poll, 1, -1) };
            if poll.revents & libc::POLLIN == 0 {
                return;
            }
            // SAFETY: the kernel fills in a structure that must be zero before.
            let mut notice: libc::seccomp_notif = unsafe { std::mem::zeroed() };
            // SAFETY: as above.
            if unsafe { libc::ioctl(listener.as_raw_fd(), RECEIVE, &raw mut notice) } != 0 {
                continue;
            }
            match self.decide(&notice) {
                Answer::Now(response) => respond(listener.as_raw_fd(), response),
                Answer::Later(response, delay) => {
                    let listener = listener.try_clone().unwrap();
                    thread::spawn(move || {
                        thread::sleep(delay);
                        respond(listener.as_raw_fd(), response);
                    });
                }
            }
        }
    }

    fn decide(&self, notice: &libc::seccomp_notif) -> Answer {
        let mut response = libc::seccomp_notif_resp {
            id: notice.id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        let mut state = self.0.state.lock();
        if state.step.is_some() && self.stepped_path(notice).is_some() {
            let number = state.seen;
            state.seen += 1;
            if let Some(calls) = &mut state.calls {
                calls.push(self.call(notice));
            }
            let act = state.step.as_mut().and_then(|(at, act)| act.take_if(|_| *at == number));
            // Under the lock: calls of other threads wait as well.
            act.into_iter().for_each(|act| act());
            return Answer::Now(response);
        }
        if is_by_path(notice) || is_by_address(notice) {
            return Answer::Now(response);
        }
        let (Some(plan), Some(path)) = (state.plan, self.path_of(notice)) else {
            return Answer::Now(response);
        };
        let name = CALLS.iter().find(|(_, number)| *number == i64::from(notice.data.nr)).unwrap().0;
        let mut fail = |errno: i32| {
            response.flags = 0;
            response.error = -errno;
        };
        let is_write = matches!(name, "pwrite64" | "write");
        if let Some((owed, errno)) = state.owed.take_if(|(owed, _)| is_write && *owed == path) {
            fail(errno);
            state.failed.push(format!("{name} {} after a short one", owed.display()));
            return Answer::Now(response);
        }
        let number = state.seen;
        state.seen += 1;
        if number < plan.after || number - plan.after >= plan.times {
            return Answer::Now(response);
        }
        let mut done = plan.fault;
        match plan.fault {
            Fault::Error(errno) => fail(errno),
            Fault::ShortWrite(errno) => match half_written(notice, name) {
                Some(written) => {
                    response.flags = 0;
                    response.val = written;
                    state.owed = Some((path.clone(), errno));
                }
                None => {
                    fail(errno);
                    done = Fault::Error(errno);
                }
            },
            Fault::ShortRead => {
                if let Some(read) = half_read(notice, name) {
                    response.flags = 0;
                    response.val = read;
                }
            }
            Fault::Delay(delay) => {
                state.failed.push(format!("{name} {} late", path.display()));
                return Answer::Later(response, delay);
            }
        }
        let shown = path.strip_prefix(&self.0.root).unwrap_or(&path).to_string_lossy();
        state.failed.push(format!("call {number}, {name} {shown:.60}: {done:?}"));
        Answer::Now(response)
    }

    /// The file of the call's first argument, if it is one of ours.
    fn path_of(&self, notice: &libc::seccomp_notif) -> Option<PathBuf> {
        let arguments = &notice.data.args;
        let path = match arguments[0] as i32 {
            libc::AT_FDCWD => path_at(notice, arguments[1])?,
            fd => fs::read_link(format!("/proc/{}/fd/{fd}", notice.pid)).ok()?,
        };
        self.is_ours(&path).then_some(path)
    }

    /// [`Injector::path_of`], also of a call that has only a path, and through `/proc/self/fd`.
    fn stepped_path(&self, notice: &libc::seccomp_notif) -> Option<PathBuf> {
        let arguments = &notice.data.args;
        let path = match arguments[0] as i32 {
            _ if is_by_path(notice) => path_at(notice, arguments[0])?,
            _ if is_by_address(notice) => address_at(notice, arguments[1])?,
            libc::AT_FDCWD => path_at(notice, arguments[1])?,
            fd => fs::read_link(format!("/proc/{}/fd/{fd}", notice.pid)).ok()?,
        };
        let path = through_descriptor(notice, path)?;
        self.is_ours(&path).then_some(path)
    }

    fn call(&self, notice: &libc::seccomp_notif) -> Call {
        let number = i64::from(notice.data.nr);
        let name = all_calls().find(|(_, known)| *known == number).map_or("", |(name, _)| name);
        let paths = named(notice, name).into_iter().filter(|path| self.is_ours(path)).collect();
        Call { name, paths }
    }

    fn is_ours(&self, path: &Path) -> bool {
        if self.0.also.iter().any(|root| path.starts_with(root)) {
            return true;
        }
        let below = path.strip_prefix(&self.0.root);
        below.is_ok_and(|below| !below.starts_with("log") && !below.starts_with("mnt"))
    }
}

fn all_calls() -> impl Iterator<Item = &'static (&'static str, i64)> {
    CALLS.iter().chain(CALLS_BY_PATH).chain(OLD_CALLS_BY_PATH).chain(CALLS_BY_ADDRESS)
}

fn is_by_path(notice: &libc::seccomp_notif) -> bool {
    let mut calls = CALLS_BY_PATH.iter().chain(OLD_CALLS_BY_PATH);
    calls.any(|(_, number)| *number == i64::from(notice.data.nr))
}

fn is_by_address(notice: &libc::seccomp_notif) -> bool {
    CALLS_BY_ADDRESS.iter().any(|(_, number)| *number == i64::from(notice.data.nr))
}

/// The files that a call names, each by its path.
fn named(notice: &libc::seccomp_notif, name: &str) -> Vec<PathBuf> {
    let arguments = &notice.data.args;
    let at = |fd: u64, path: Option<u64>| {
        let path = path.and_then(|path| path_at(notice, path)).unwrap_or_default();
        if path.is_absolute() {
            return Some(path);
        }
        let from = match fd as i32 {
            libc::AT_FDCWD => format!("/proc/{}/cwd", notice.pid),
            fd => format!("/proc/{}/fd/{fd}", notice.pid),
        };
        let from = fs::read_link(from).ok()?;
        Some(if path.as_os_str().is_empty() { from } else { from.join(path) })
    };
    let found = match name {
        "bind" | "connect" => vec![address_at(notice, arguments[1])],
        "rename" | "link" => vec![path_at(notice, arguments[0]), path_at(notice, arguments[1])],
        "renameat" | "renameat2" | "linkat" => {
            vec![at(arguments[0], Some(arguments[1])), at(arguments[2], Some(arguments[3]))]
        }
        "symlinkat" => vec![at(arguments[1], Some(arguments[2]))],
        _ if is_by_path(notice) => vec![path_at(notice, arguments[0])],
        "openat" | "openat2" | "mkdirat" | "mknodat" | "unlinkat" | "readlinkat" | "utimensat"
        | "fchmodat" | "fchownat" | "newfstatat" | "statx" => {
            vec![at(arguments[0], Some(arguments[1]))]
        }
        _ => vec![at(arguments[0], None)],
    };
    found.into_iter().flatten().filter_map(|path| through_descriptor(notice, path)).collect()
}

/// The path itself, where it leads through `/proc/self/fd`.
fn through_descriptor(notice: &libc::seccomp_notif, path: PathBuf) -> Option<PathBuf> {
    let Ok(below) = path.strip_prefix("/proc/self/fd") else { return Some(path) };
    let mut parts = below.components();
    let from = Path::new(&format!("/proc/{}/fd", notice.pid)).join(parts.next()?);
    let from = fs::read_link(from).ok()?;
    let rest = parts.as_path();
    Some(if rest.as_os_str().is_empty() { from } else { from.join(rest) })
}

/// The path in the address of a Unix socket that lies in the caller's memory: behind its family.
fn address_at(notice: &libc::seccomp_notif, address: u64) -> Option<PathBuf> {
    path_at(notice, address + 2).filter(|path| path.is_absolute())
}

/// The path that lies in the caller's memory.
fn path_at(notice: &libc::seccomp_notif, address: u64) -> Option<PathBuf> {
    let memory = File::open(format!("/proc/{}/mem", notice.pid)).ok()?;
    let mut text = [0; 512];
    let read = memory.read_at(&mut text, address).ok()?;
    let text = text[..read].split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(OsStr::from_bytes(text)))
}

enum Answer {
    Now(libc::seccomp_notif_resp),
    Later(libc::seccomp_notif_resp, Duration),
}

/// Writes the first half of the blocks that the call was to write.
fn half_written(notice: &libc::seccomp_notif, name: &str) -> Option<i64> {
    let [fd, buffer, length, offset, ..] = notice.data.args;
    let half = length / 2 / 4096 * 4096;
    if name != "pwrite64" || half == 0 {
        return None;
    }
    let mut bytes = vec![0; half as usize];
    File::open(format!("/proc/{}/mem", notice.pid)).ok()?.read_exact_at(&mut bytes, buffer).ok()?;
    let file = File::options().write(true).open(format!("/proc/{}/fd/{fd}", notice.pid)).ok()?;
    file.write_all_at(&bytes, offset).ok()?;
    Some(half as i64)
}

/// Reads the first half of what the call was to read.
fn half_read(notice: &libc::seccomp_notif, name: &str) -> Option<i64> {
    let [fd, buffer, length, offset, ..] = notice.data.args;
    if name != "pread64" || length < 2 {
        return None;
    }
    let mut bytes = vec![0; length as usize / 2];
    let file = File::open(format!("/proc/{}/fd/{fd}", notice.pid)).ok()?;
    let read = file.read_at(&mut bytes, offset).ok()?;
    let memory = File::options().write(true).open(format!("/proc/{}/mem", notice.pid)).ok()?;
    memory.write_all_at(&bytes[..read], buffer).ok()?;
    Some(read as i64)
}

/// linux/seccomp.h: SECCOMP_IOCTL_NOTIF_RECV and SECCOMP_IOCTL_NOTIF_SEND.
const RECEIVE: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;

fn respond(listener: RawFd, mut response: libc::seccomp_notif_resp) {
    // SAFETY: the kernel reads the structure. It fails where the caller has died meanwhile.
    unsafe { libc::ioctl(listener, SEND, &raw mut response) };
}

/// A program that lets all calls through but those of [`CALLS`], of which it asks.
fn filter() -> Vec<libc::sock_filter> {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0)];
    for (_, number) in all_calls() {
        let jump = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
        program.push(statement(jump, 0, 1, *number as u32));
        program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW));
    program
}

/// In the child: installs the program, tells the parent the descriptor by which it is asked, and
/// waits until it has it.
fn install(socket: RawFd, filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: the program lives; send and recv are given buffers of their length.
    unsafe {
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        let fd = libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let listener = OwnedFd::from_raw_fd(fd as RawFd);
        let message = [libc::getpid(), listener.as_raw_fd()];
        let sent = libc::send(socket, message.as_ptr().cast(), 8, 0);
        let mut answer = 0_u8;
        if sent != 8 || libc::recv(socket, (&raw mut answer).cast(), 1, 0) != 1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
