//! What ordinary programs may expect of the mount, one family of operations a file.

#[path = "../common/mod.rs"]
mod common;

/// Makes two tests of each function named: one on a mount with the writeback cache, one on a
/// mount with `--no-writeback`. The function takes the [`common::Mounted`].
macro_rules! each_cache {
    ($($test:ident),+ $(,)?) => {
        mod writeback {
            $(#[test] fn $test() { super::$test($crate::common::Vault::init().mount(&[])); })+
        }
        mod no_writeback {
            $(#[test] fn $test() {
                super::$test($crate::common::Vault::init().mount(&["--no-writeback"]));
            })+
        }
    };
}

mod attrs;
mod bench_command;
mod concurrent;
mod copies;
mod deep;
mod descriptors;
mod direct;
mod fallocate;
mod harness;
mod holes;
mod inodes;
mod killed;
mod links;
mod locks;
mod mmap;
mod nameless;
mod open_flags;
mod read_only;
mod read_write;
mod readdir;
mod recovery;
mod rename;
mod rewrap;
mod round_trips;
mod special;
mod spin;
mod stable_stat;
mod sync;
mod times;
mod truncate;
mod unlink;
mod wake_ups;
mod xattrs;

/// Plaintext bytes of the first block of a file, and of every later one (format v1).
const FIRST: u64 = 3808;
const LATER: u64 = 4064;

/// The lengths at which something changes: around each end of the first blocks as plaintext sees
/// them, around the 4096 of a page and of a stored block, and one of many blocks.
fn boundaries() -> Vec<u64> {
    let ends = [FIRST, 4096, FIRST + LATER, 8192, FIRST + 2 * LATER];
    let mut lengths: Vec<u64> = ends.iter().flat_map(|end| [end - 1, *end, end + 1]).collect();
    lengths.extend([0, 1, LATER, 255, 256, FIRST + 40 * LATER + 17]);
    lengths.sort_unstable();
    lengths.dedup();
    lengths
}
