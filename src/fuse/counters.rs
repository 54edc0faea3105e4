//! Counts of requests by operation.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! operations {
    ($($name:ident),* $(,)?) => {
        /// An operation of the FUSE protocol.
        #[derive(Debug, Clone, Copy)]
        #[expect(non_camel_case_types, reason = "the protocol's own names")]
        pub(super) enum Operation { $($name),* }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

operations! {
    lookup, forget, getattr, setattr, readlink, mknod, mkdir, unlink, rmdir, symlink, rename,
    link, open, read, write, flush, release, fsync, opendir, readdir, readdirplus, fsyncdir,
    statfs, setxattr, getxattr, listxattr, removexattr, access, create, ioctl, fallocate, lseek,
    copy_file_range,
}

impl Operation {
    /// Whether it is a sync.
    pub(super) fn is_sync(self) -> bool {
        matches!(self, Self::fsync | Self::fsyncdir)
    }
}

/// A count for each operation since the mount.
#[derive(Debug)]
pub struct Counters([AtomicU64; NAMES.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; NAMES.len()])
    }
}

impl Counters {
    pub(super) fn count(&self, operation: Operation) {
        self.0[operation as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many reads there were.
    pub(super) fn reads(&self) -> u64 {
        self.0[Operation::read as usize].load(Ordering::Relaxed)
    }

    /// The counts that are not 0, by the protocol's name in small letters.
    pub fn snapshot(&self) -> BTreeMap<String, u64> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let named = NAMES.iter().zip(counts).filter(|&(_, count)| count > 0);
        named.map(|(name, count)| ((*name).to_owned(), count)).collect()
    }
}
