//! flock(2) and POSIX record locks, within a process and between processes.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::common::files::open_rw;
use crate::common::{Mounted, require, run_within, wait_until};

each_cache!(
    flocks_of_two_descriptors_conflict,
    flocks_hold_between_processes,
    record_locks_hold_between_processes,
    record_locks_of_ranges_do_not_meet,
    a_lock_goes_with_its_process,
    a_waiting_lock_is_granted,
);

fn flocks_of_two_descriptors_conflict(mount: Mounted) {
    let path = mount.join("file");
    let (one, two) = (open_rw(&path), open_rw(&path));
    flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(flock(&two, FlockOperation::NonBlockingLockShared), Err(Errno::WOULDBLOCK));
    flock(&one, FlockOperation::NonBlockingLockShared).unwrap();
    flock(&two, FlockOperation::NonBlockingLockShared).unwrap();
    assert_eq!(flock(&one, FlockOperation::NonBlockingLockExclusive), Err(Errno::WOULDBLOCK));
    drop(two);
    flock(&one, FlockOperation::NonBlockingLockExclusive).unwrap();
    flock(&one, FlockOperation::Unlock).unwrap();
    flock(open_rw(&path), FlockOperation::NonBlockingLockExclusive).unwrap();
    // A directory can be locked too.
    let dir = File::open(mount.path()).unwrap();
    flock(&dir, FlockOperation::NonBlockingLockExclusive).unwrap();
}

fn flocks_hold_between_processes(mount: Mounted) {
    let path = mount.join("file");
    let mine = open_rw(&path);
    let program = require("flock");
    let attempt = || {
        run_within(Duration::from_secs(20), Command::new(&program).arg("-n").arg(&path).arg("true"))
            .code()
    };
    assert_eq!(attempt(), 0);
    flock(&mine, FlockOperation::LockExclusive).unwrap();
    assert_eq!(attempt(), 1);
    flock(&mine, FlockOperation::Unlock).unwrap();
    assert_eq!(attempt(), 0);
}

/// A record lock of this process, not waited for.
fn record_lock(file: &impl AsRawFd, kind: i32, start: i64, length: i64) -> io::Result<()> {
    let mut lock = record(kind, start, length);
    // SAFETY: the descriptor is open and `lock` is a whole flock structure.
    match unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw mut lock) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Who holds a record lock against an exclusive one of this process, and from where on.
fn holder(file: &File, start: i64, length: i64) -> Option<(u32, i64, i64)> {
    let mut lock = record(libc::F_WRLCK, start, length);
    // SAFETY: as above.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut lock) };
    assert_eq!(asked, 0, "{}", io::Error::last_os_error());
    (lock.l_type != libc::F_UNLCK as i16).then_some((lock.l_pid as u32, lock.l_start, lock.l_len))
}

fn record(kind: i32, start: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: length,
        l_pid: 0,
    }
}

/// A process that lives as long as this value, and then ends by kill -9.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A process that holds a record lock for as long as it lives; the error is the lock's own.
///
/// No file descriptor of this process may be open on the file: the child inherits it over the
/// fork, closes it at the exec, and a process that closes any descriptor of a file loses its record
/// locks on it.
fn process_with_lock(path: &Path, kind: i32, start: i64, length: i64) -> io::Result<Process> {
    let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut command = Command::new(require("sleep"));
    command.arg("600").stdin(Stdio::null());
    let take = move || {
        // SAFETY: open(2) with a string that ends in NUL. The descriptor stays open over the exec,
        // since closing it would give the lock up.
        let fd = unsafe { libc::open(name.as_ptr(), libc::O_RDWR) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        record_lock(&fd, kind, start, length)
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(take) };
    command.spawn().map(Process)
}

fn record_locks_hold_between_processes(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"0123456789").unwrap();
    let child = process_with_lock(&path, libc::F_WRLCK, 2, 3).unwrap();
    let mine = open_rw(&path);
    assert_eq!(holder(&mine, 0, 0), Some((child.0.id(), 2, 3)));
    let refused = record_lock(&mine, libc::F_RDLCK, 0, 10).unwrap_err();
    assert!(matches!(refused.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)));
    record_lock(&mine, libc::F_WRLCK, 5, 5).unwrap();
    // A second process meets this one's lock.
    let refused = process_with_lock(&path, libc::F_RDLCK, 9, 1).err().unwrap();
    assert!(matches!(refused.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)));
}

fn record_locks_of_ranges_do_not_meet(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    let lock = |kind, start, length| process_with_lock(&path, kind, start, length);
    let writers = [lock(libc::F_WRLCK, 0, 4096).unwrap(), lock(libc::F_WRLCK, 4096, 4096).unwrap()];
    let readers = [0, 1, 2].map(|_| lock(libc::F_RDLCK, 1 << 40, 1).unwrap());
    assert!(lock(libc::F_WRLCK, 4000, 1000).is_err());
    assert!(lock(libc::F_WRLCK, 1 << 40, 1).is_err());
    drop((writers, readers));
    lock(libc::F_WRLCK, 0, 0).unwrap();
}

fn a_lock_goes_with_its_process(mount: Mounted) {
    let path = mount.join("file");
    fs::write(&path, b"x").unwrap();
    let child = process_with_lock(&path, libc::F_WRLCK, 0, 0).unwrap();
    let mine = open_rw(&path);
    assert!(record_lock(&mine, libc::F_WRLCK, 0, 0).is_err());
    drop(child);
    record_lock(&mine, libc::F_WRLCK, 0, 0).unwrap();
}

fn a_waiting_lock_is_granted(mount: Mounted) {
    let path = mount.join("file");
    let mine = open_rw(&path);
    flock(&mine, FlockOperation::LockExclusive).unwrap();
    let mut waiter = Command::new(require("flock"));
    let mut waiting = Process(waiter.arg(&path).arg("true").stdin(Stdio::null()).spawn().unwrap());
    std::thread::sleep(Duration::from_millis(100));
    assert!(waiting.0.try_wait().unwrap().is_none(), "flock did not wait");
    // Other work on the mount goes on while somebody waits for a lock.
    fs::write(mount.join("other"), b"x").unwrap();
    drop(mine);
    let ended = wait_until(Duration::from_secs(20), || waiting.0.try_wait().unwrap());
    assert!(ended.is_some_and(|status| status.success()));
}
