//! The daemon's behaviour when memory is short.

use super::proc::own::lower_oom_score;

/// The daemon's /proc/PID/oom_score_adj, of -1000 to 1000: its death takes the content
/// that other programs have in the page cache, and it holds little memory itself. (proc(5))
const OOM_SCORE: i32 = -900;

/// Marks this thread, and those that it starts, as ones that write back others' dirty pages: they don't wait
/// for the dirty pages of other devices, and their allocations start no write-back (prctl(2)
/// PR_SET_IO_FLUSHER). Also lowers the out-of-memory killer's score of the process. Both take
/// CAP_SYS_RESOURCE; without it nothing changes.
///
/// Children inherit both, so it is to be called after those that stay were started.
pub fn serve_memory() {
    const PR_SET_IO_FLUSHER: libc::c_int = 57;
    let zero: libc::c_ulong = 0;
    // SAFETY: the call takes numbers alone.
    unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1 as libc::c_ulong, zero, zero, zero) };
    lower_oom_score(OOM_SCORE);
}
