//! The daemon's part when memory is short.

use super::proc::own::lower_oom_score;

/// The daemon's /proc/PID/oom_score_adj, of -1000 to 1000: its death takes the content
/// that other programs have in the page cache, and it holds little memory itself. (proc(5))
const OOM_SCORE: i32 = -900;

/// Tells the kernel that this thread, and those that it starts, write back what others have dirty:
/// they are not made to wait for other devices' dirty pages, nor sent to write back their own when
/// they need memory (prctl(2) PR_SET_IO_FLUSHER). And asks the out-of-memory killer to spare the
/// process. Both take CAP_SYS_RESOURCE; without it nothing changes.
///
/// Children have both, too: to be called when those that stay have been started.
pub fn serve_memory() {
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    let zero: libc::c_ulong = 0;
    // SAFETY: the call takes numbers alone.
    unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1 as libc::c_ulong, zero, zero, zero) };
    lower_oom_score(OOM_SCORE);
}
