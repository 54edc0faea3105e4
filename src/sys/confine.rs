//! Confinement of a daemon after its mount is made: it gives up capabilities, new privileges, the system
//! calls that give control over the machine, and all files that it does not need. (capabilities(7),
//! seccomp(2), landlock(7))

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, clear_ambient_capability_set, no_new_privs,
    remove_capability_from_bounding_set, secure_computing_mode, set_no_new_privs,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use serde::{Deserialize, Serialize};

use super::capability::keep_only;
use super::landlock::{self, Reach};
use super::process::require_one_thread;

/// The capabilities that serving a mount takes.
const KEPT: CapabilitySet = CapabilitySet::CHOWN // new files belong to their creator
    .union(CapabilitySet::DAC_OVERRIDE) // files of others, whatever their mode
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER) // their modes, times and attributes
    .union(CapabilitySet::FSETID) // set-group-id bits that their owners gave
    .union(CapabilitySet::SETGID) // acting as the caller
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::MKNOD) // devices
    .union(CapabilitySet::SETFCAP) // capabilities of files
    .union(CapabilitySet::IPC_LOCK) // keys in locked memory
    .union(CapabilitySet::SYS_RESOURCE) // the vault's own files on a full disk
    .union(CapabilitySet::SYS_ADMIN); // trusted.* attributes

/// System calls that are refused with EPERM.
const REFUSED: &[libc::c_long] = &[
    // Other programs, and other processes' memory.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // The kernel: its code, its programs, its end.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_personality,
    // Keys of the kernel's.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // The tree of files.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_open_by_handle_at,
    // The machine: swap, accounts, quotas, clocks, names.
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_ON_X86: &[libc::c_long] = &[
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_kexec_file_load,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_ON_X86: &[libc::c_long] = &[libc::SYS_kexec_file_load];

/// Of the numbers of the x32 interface, which a kernel may have beside that of x86-64 under the same
/// architecture (arch/x86/include/uapi/asm/unistd.h: __X32_SYSCALL_BIT). Some calls have a number of
/// their own there.
const X32: u32 = 0x4000_0000;

/// What a process has given up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// The capabilities that it has left, as in capabilities(7).
    pub capabilities: Vec<String>,
    /// No program that it runs gets more than it has (PR_SET_NO_NEW_PRIVS).
    pub no_new_privileges: bool,
    /// A filter refuses system calls (seccomp(2)).
    pub seccomp: bool,
    /// The version of Landlock's interface that keeps it from files; 0 for none (landlock(7)).
    #[serde(default)]
    pub landlock: u32,
}

/// The version of Landlock that this process is confined by.
static LANDLOCK: AtomicU32 = AtomicU32::new(0);

/// Confines this thread, and those that it starts, as far as the kernel can: all but files.
///
/// # Errors
/// Those of prctl(2), capset(2) and seccomp(2); a part may be in force then.
pub fn confine() -> io::Result<()> {
    give_up_capabilities()?;
    set_no_new_privs(true)?;
    match filter_calls() {
        // A kernel without filters, or a processor that the library does not know.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        filtered => filtered,
    }
}

/// Confines this process to the files of `reach`, where the kernel has Landlock. After [`confine`].
///
/// # Errors
/// Those of landlock_restrict_self(2); any process that has other threads, which would not be confined.
pub fn confine_files(reach: &Reach) -> io::Result<()> {
    require_one_thread()?;
    LANDLOCK.store(landlock::restrict(reach)?, Ordering::Relaxed);
    Ok(())
}

fn filter_calls() -> io::Result<()> {
    let mut refusing = program(SeccompAction::Errno(libc::EPERM as u32), refused()?)?;
    if cfg!(target_arch = "x86_64") {
        refusing.splice(0..0, refuse_x32());
    }
    install(&refusing)?;
    // The C library then starts threads by clone(2), whose flags a filter can see.
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    install(&program(SeccompAction::Errno(libc::ENOSYS as u32), clone3)?)
}

/// What this thread has given up.
pub fn confinement() -> Confinement {
    let left = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
    Confinement {
        capabilities: left.iter_names().map(|(name, _)| format!("CAP_{name}")).collect(),
        no_new_privileges: no_new_privs().unwrap_or(false),
        seccomp: has_filter(),
        landlock: LANDLOCK.load(Ordering::Relaxed),
    }
}

/// Whether a filter is in force. (In strict mode the call would kill this thread.)
fn has_filter() -> bool {
    use rustix::thread::SecureComputingMode;
    secure_computing_mode().is_ok_and(|mode| mode == SecureComputingMode::Filter)
}

fn give_up_capabilities() -> io::Result<()> {
    // Where the kernel knows no ambient set there is none.
    let _ = clear_ambient_capability_set();
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if KEPT.contains(one) {
            continue;
        }
        match remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Past the last one that this kernel knows.
            Err(Errno::INVAL) if bit > 0 => break,
            // In a container without CAP_SETPCAP; no_new_privs keeps programs from those left.
            Err(Errno::PERM) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    keep_only(KEPT)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn refused() -> io::Result<Rules> {
    let mut rules: Rules =
        REFUSED.iter().chain(REFUSED_ON_X86).map(|call| (*call, Vec::new())).collect();
    // A clone that is no thread; a socket to another machine, or to the kernel.
    let only = |op, value| {
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Qword, op, value);
        condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(io::Error::other)
    };
    let is_thread = libc::CLONE_THREAD as u64;
    rules.insert(libc::SYS_clone, vec![only(SeccompCmpOp::MaskedEq(is_thread), 0)?]);
    rules.insert(libc::SYS_socket, vec![only(SeccompCmpOp::Ne, libc::AF_UNIX as u64)?]);
    Ok(rules)
}

/// Instructions that refuse all of the x32 interface, to be put before a filter.
fn refuse_x32() -> [sock_filter; 3] {
    let instruction = |code: u32, jf, k| sock_filter { code: code as u16, jt: 0, jf, k };
    let refusal = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let number = std::mem::offset_of!(libc::seccomp_data, nr) as u32;
    [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, number),
        instruction(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 1, X32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, refusal),
    ]
}

fn program(action: SeccompAction, rules: Rules) -> io::Result<BpfProgram> {
    let target = TargetArch::try_from(std::env::consts::ARCH);
    let target = target.map_err(|error| io::Error::new(io::ErrorKind::Unsupported, error))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, target);
    filter.and_then(BpfProgram::try_from).map_err(io::Error::other)
}

/// Installs a filter. Kernels before 5.16 would turn off speculative execution with it, which costs
/// the ciphers more than anything: the daemon runs no code of others.
fn install(program: &BpfProgram) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the program has `len` instructions of the kernel's layout (repr(C), linux/filter.h), and
    // the kernel only reads it.
    let installed = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            &raw const filter,
        )
    };
    if installed == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        // Without CONFIG_SECCOMP or CONFIG_SECCOMP_FILTER.
        error if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
            Err(io::Error::new(io::ErrorKind::Unsupported, error))
        }
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::process::Command;
    use std::thread;

    use rustix::mount::UnmountFlags;

    use super::*;

    /// In a thread, which takes it to its end.
    #[test]
    fn a_confined_thread_serves_files_and_runs_nothing() {
        let privileged = capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN);
        let scratch = tempfile::tempdir().unwrap();
        let reach = Reach { trees: vec![scratch.path().to_owned()], ..Reach::default() };
        let confined = move || {
            confine().unwrap();
            let landlock = landlock::restrict(&reach).unwrap();
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            denied(Command::new("true").spawn().map(drop));
            denied(UdpSocket::bind("127.0.0.1:0").map(drop));
            denied(rustix::mount::mount_bind("/", "/nowhere").map_err(Into::into));
            denied(rustix::process::chroot("/").map_err(Into::into));
            denied(rustix::mount::unmount("/", UnmountFlags::DETACH).map_err(Into::into));
            // execve and process_vm_readv of x32, and its getpid: ENOSYS where the kernel has no x32.
            #[cfg(target_arch = "x86_64")]
            for call in [520, 539, 39] {
                // SAFETY: it is refused; else there is no program, and no memory, at 0.
                let called = unsafe { libc::syscall(call | libc::c_long::from(X32), 0, 0, 0, 0) };
                assert_eq!(called, -1);
                denied(Err(io::Error::last_os_error()));
            }
            fs::write(scratch.path().join("file"), b"x").unwrap();
            UnixStream::pair().unwrap();
            thread::spawn(|| ()).join().unwrap();
            let now = confinement();
            assert!(now.no_new_privileges && now.seccomp, "{now:?}");
            if landlock > 0 {
                denied(fs::read("/etc/passwd").map(drop));
            }
            let chown = "CAP_CHOWN".to_owned();
            assert_eq!(now.capabilities.contains(&chown), privileged, "{now:?}");
            assert!(!now.capabilities.contains(&"CAP_NET_ADMIN".to_owned()), "{now:?}");
        };
        thread::spawn(confined).join().unwrap();
        assert!(!confinement().seccomp);
    }
}
