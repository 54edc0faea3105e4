//! Who asks for an operation.

use crate::keys::trail::Who;

/// Who asks for an operation.
#[derive(Debug, Clone, Copy)]
pub struct Caller {
    /// The user.
    pub uid: u32,
    /// The user's group.
    pub gid: u32,
    /// The process, or the thread of it that asks.
    pub pid: u32,
}

impl Caller {
    /// Whether the caller is the superuser, who keeps suid and sgid bits where others lose them.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// The caller, who waits, as the trail names them.
    pub fn who(&self) -> Who {
        Who::process(self.uid, self.gid, self.pid)
    }

    /// Whether `gid` is the caller's group or one of its supplementary groups, as far as /proc
    /// tells them (proc(5), status).
    pub fn is_in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups().is_some_and(|groups| groups.contains(&gid))
    }

    /// The caller's supplementary groups (proc(5), status); `None` where /proc does not tell, as of
    /// a process in another pid namespace.
    pub fn groups(&self) -> Option<Vec<u32>> {
        supplementary_groups(self.pid)
    }

    /// Whether the caller waits in an open(2) for writing that empties the file. The kernel does
    /// not say so in the request that it makes of it: opening comes first, and to agree on another
    /// order (FUSE_ATOMIC_O_TRUNC) would have a program that runs be emptied before that is refused.
    ///
    /// The numbers are those with which the thread entered the kernel, and it can't change them
    /// (proc(5), syscall). `false` too where they can't be seen: by a daemon that may not trace the
    /// caller, of openat2(2), whose flags lie elsewhere, of io_uring and of NFS.
    pub fn is_emptying(&self) -> bool {
        let read = std::fs::read_to_string(format!("/proc/{}/syscall", self.pid));
        read.is_ok_and(|line| empties(&line))
    }
}

/// Whether a line of /proc/PID/syscall, the number and then the arguments, is such an open.
fn empties(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let number = words.next().and_then(|word| word.parse::<libc::c_long>().ok());
    let flags_at = match number {
        Some(libc::SYS_openat) => 2,
        #[cfg(target_arch = "x86_64")]
        Some(libc::SYS_open) => 1,
        #[cfg(target_arch = "x86_64")]
        Some(libc::SYS_creat) => return true,
        _ => return false,
    };
    let flags = words.nth(flags_at).and_then(|word| word.strip_prefix("0x"));
    let flags = flags.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let has = |flags: u64, flag: libc::c_int| flags & flag as u64 != 0;
    flags.is_some_and(|flags| has(flags, libc::O_TRUNC) && has(flags, libc::O_ACCMODE))
}

fn supplementary_groups(pid: u32) -> Option<Vec<u32>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"))?;
    groups.split_whitespace().map(|group| group.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_that_empties_is_told_from_others() {
        let openat = |flags: libc::c_int| {
            format!(
                "{} 0xffffff9c 0x7f00 {flags:#x} 0x1b6 0x0 0x0 0x7ffe 0x7f01\n",
                libc::SYS_openat
            )
        };
        assert!(empties(&openat(libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)));
        assert!(empties(&openat(libc::O_RDWR | libc::O_TRUNC)));
        for line in [
            &openat(libc::O_RDONLY | libc::O_TRUNC),
            &openat(libc::O_WRONLY | libc::O_APPEND),
            "running",
            "-1 0x7ffe 0x7f01",
            "",
            "257",
            &format!("{} 0x3 0x7f00 0x241 0x1b6 0x0 0x0 0x7ffe 0x7f01", libc::SYS_openat2),
            &format!("{} 0x241 0x241 0x241 0x241 0x241 0x241 0x1 0x1", libc::SYS_read),
        ] {
            assert!(!empties(line), "{line}");
        }
    }
}
