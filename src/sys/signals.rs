//! Signals (signal(7)).

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

/// SIGTERM, SIGINT and SIGHUP, blocked: they stay pending until [`BlockedSignals::wait`].
pub struct BlockedSignals {
    set: libc::sigset_t,
}

impl BlockedSignals {
    /// Blocks the three signals in this thread and in every thread that it starts from now on. In
    /// the `foreground` SIGINT and SIGHUP stay ignored if they were: the program was started by
    /// nohup(1), or by a shell's `&`, to outlive its terminal.
    ///
    /// # Errors
    /// That of pthread_sigmask(3).
    pub fn block(foreground: bool) -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset initialises the set that it is given; the calls after it have a
        // pointer to an initialised set, and the old mask is not asked for.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
                if foreground && signal != libc::SIGTERM && is_ignored(signal) {
                    continue;
                }
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) {
                0 => Ok(Self { set: set.assume_init() }),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Waits for one of the signals, and returns its name.
    ///
    /// # Errors
    /// That of sigwait(3).
    pub fn wait(&self) -> io::Result<&'static str> {
        let mut signal = 0;
        // SAFETY: both pointers are to values that live through the call; the set is initialised.
        match unsafe { libc::sigwait(&self.set, &mut signal) } {
            0 => Ok(match signal {
                libc::SIGTERM => "SIGTERM",
                libc::SIGINT => "SIGINT",
                _ => "SIGHUP",
            }),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether a signal is ignored.
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: no new action is given, and the old one goes to memory that lives through the call;
    // zeros are a valid value where the call fails.
    unsafe {
        libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Ignores a signal.
pub(super) fn ignore(signal: i32) {
    set_action(signal, libc::SIG_IGN);
}

/// Sets a signal to be ignored, or to its default action.
pub(super) fn set_action(signal: i32, action: libc::sighandler_t) {
    // SAFETY: SIG_DFL and SIG_IGN install no code of this program. Numbers that the C library
    // keeps for itself are refused.
    unsafe { libc::signal(signal, action) };
}
