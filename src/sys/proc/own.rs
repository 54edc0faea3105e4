//! /proc/self: this process.

use std::fs;
use std::io;
use std::os::fd::RawFd;

/// This program, also after its file was replaced.
pub const PROGRAM: &str = "/proc/self/exe";

/// Of -1000 to 1000.
const OOM_SCORE_ADJ: &str = "/proc/self/oom_score_adj";

/// How many threads there are.
///
/// # Errors
/// Those of opening /proc/self/task.
pub fn count_threads() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

/// The descriptors that are open, and the one through which they were listed.
pub fn descriptors() -> impl Iterator<Item = RawFd> {
    let entries = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The control groups: a line for each hierarchy (cgroups(7)).
pub fn control_groups() -> Option<String> {
    fs::read_to_string("/proc/self/cgroup").ok()
}

/// Lowers the out-of-memory killer's score to `score`. Without CAP_SYS_RESOURCE it stays.
pub fn lower_oom_score(score: i32) {
    let now = fs::read_to_string(OOM_SCORE_ADJ).ok();
    if now.and_then(|text| text.trim().parse::<i32>().ok()).is_some_and(|now| now > score) {
        let _ = fs::write(OOM_SCORE_ADJ, score.to_string());
    }
}
