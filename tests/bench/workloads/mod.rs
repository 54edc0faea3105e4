//! What is timed: workloads, and the rows of the report that each of them fills.

mod bulk;
mod mixed;
mod programs;
mod small_files;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use crate::error::{Context, Result};
use crate::stage::Stage;

/// A row of the report. Every figure is a rate: more is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Row {
    /// A new file in calls of 1 MiB, then fsync
    Write,
    /// The same file overwritten, then fsync
    Rewrite,
    /// The whole file in calls of 1 MiB, after a new mount
    Read,
    /// The same in calls of 4 KiB
    Read4k,
    /// 4 KiB reads at random places of a file, after a new mount
    RandomRead,
    /// 4 KiB writes at random places of a file, then fsync
    RandomWrite,
    /// New files of 4 KiB in directories of a hundred
    Create,
    /// Listing each directory and stat of each entry, after a new mount
    Stat,
    /// Reading each of the files, after a new mount
    SmallRead,
    /// Opening, reading and closing each of them again, out of the kernel's cache
    Reopen,
    /// Removing the files and their directories
    Delete,
    /// tar -x of a source tree
    Untar,
    /// git add, commit and status of a source tree
    Git,
    /// Single-row transactions through the sqlite3 shell
    Sqlite,
    /// Four programs at once: one streams, one reads and one writes at random, one handles small files
    Mixed,
    /// Looking for names that are not there, one after the other, while eight threads fsync
    LookUps,
}

impl Row {
    pub fn label(self) -> &'static str {
        match self {
            Self::Write => "sequential write",
            Self::Rewrite => "rewrite",
            Self::Read => "sequential read, cold",
            Self::Read4k => "sequential read in 4K calls, cold",
            Self::RandomRead => "random 4K read, cold",
            Self::RandomWrite => "random 4K write",
            Self::Create => "create 4 KiB files",
            Self::Stat => "stat, cold",
            Self::SmallRead => "read 4 KiB files, cold",
            Self::Reopen => "read 4 KiB files again",
            Self::Delete => "delete",
            Self::Untar => "untar a source tree",
            Self::Git => "git add, commit, status",
            Self::Sqlite => "SQLite inserts",
            Self::Mixed => "four mixed jobs",
            Self::LookUps => "lookups beside eight fsyncs",
        }
    }

    pub fn unit(self) -> &'static str {
        match self {
            Self::Write | Self::Rewrite | Self::Read | Self::Read4k => "MiB/s",
            Self::RandomRead | Self::RandomWrite => "IOPS",
            Self::Create | Self::Stat | Self::SmallRead | Self::Reopen | Self::Delete => "files/s",
            Self::Untar => "trees/s",
            Self::Git | Self::Mixed => "runs/s",
            Self::Sqlite => "transactions/s",
            Self::LookUps => "lookups/s",
        }
    }

    /// For how much of the row's unit the daemon's processor time is told, and what that is called.
    pub fn portion(self) -> (f64, &'static str) {
        match self.unit() {
            "MiB/s" => (1024.0, "GiB"),
            "trees/s" => (1.0, "tree"),
            "runs/s" => (1.0, "run"),
            _ => (10_000.0, "10,000"),
        }
    }
}

/// A sequence of timed steps on one mount, each preparing the next.
pub struct Workload {
    pub name: &'static str,
    pub rows: &'static [Row],
    pub run: fn(&mut Stage, &Supplies) -> Result<()>,
}

pub const WORKLOADS: [Workload; 8] = [
    Workload {
        name: "one large file",
        rows: &[Row::Write, Row::Rewrite, Row::Read, Row::Read4k],
        run: bulk::sequential,
    },
    Workload {
        name: "random access",
        rows: &[Row::RandomRead, Row::RandomWrite],
        run: bulk::random,
    },
    Workload {
        name: "small files",
        rows: &[Row::Create, Row::Stat, Row::SmallRead, Row::Reopen, Row::Delete],
        run: small_files::run,
    },
    Workload { name: "tar", rows: &[Row::Untar], run: programs::untar },
    Workload { name: "git", rows: &[Row::Git], run: programs::git },
    Workload { name: "sqlite", rows: &[Row::Sqlite], run: programs::sqlite },
    Workload { name: "four jobs", rows: &[Row::Mixed], run: mixed::run },
    Workload { name: "lookups beside fsync", rows: &[Row::LookUps], run: mixed::lookups },
];

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Scale {
    /// Size of the large files, in MiB
    pub file_mib: u64,
    /// Random reads, in number
    pub random_reads: u32,
    /// Random writes, in number
    pub random_writes: u32,
    /// Files of 4 KiB, in number; whole hundreds
    pub small_files: u32,
    /// Files in the source tree, in number
    pub tree_files: u32,
    /// SQLite transactions, in number
    pub transactions: u32,
}

impl Scale {
    pub const FULL: Self = Self {
        file_mib: 256,
        random_reads: 10_000,
        random_writes: 20_000,
        small_files: 4000,
        tree_files: 2000,
        transactions: 500,
    };
    pub const QUICK: Self = Self {
        file_mib: 4,
        random_reads: 500,
        random_writes: 500,
        small_files: 200,
        tree_files: 100,
        transactions: 20,
    };

    /// Bytes that a place must have free for one run.
    pub fn room(self) -> u64 {
        3 * (self.file_mib << 20)
    }
}

/// What workloads start from, made once.
pub struct Supplies {
    pub scale: Scale,
    /// The source tree, as an archive
    pub archive: PathBuf,
    /// Where programs find their configuration
    pub home: PathBuf,
}

impl Supplies {
    pub fn make(scale: Scale, home: &Path) -> Result<Self> {
        let archive = home.join("tree.tar");
        tree::archive(scale.tree_files, &home.join("tree"), &archive)?;
        let config = "[user]\nname = bench\nemail = bench@localhost\n[gc]\nauto = 0\n[init]\ndefaultBranch = main\n";
        fs::write(home.join(".gitconfig"), config).with(|| "writing .gitconfig".into())?;
        Ok(Self { scale, archive, home: home.to_owned() })
    }
}

/// A fixed pseudo-random sequence (splitmix64), the same in every run.
pub struct Sequence(pub u64);

impl Sequence {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
