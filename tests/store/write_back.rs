//! What a cache writes back late and the disk refuses: how much of the file is cut for it.

use atrest::store::{FileError, SealedFile};

use super::bench_file::BenchFile;
use crate::common_store::{Fault, pattern, read_all};

fn refuse(bench: &BenchFile, errno: i32) {
    bench.memory.fail(Fault { after: 0, times: 1, errno, half_written: false });
}

fn write_back(bench: &BenchFile, offset: u64, len: usize) -> bool {
    bench.file.write_back(offset, &pattern(offset, len), |write| write()).is_ok()
}

#[test]
fn a_failed_append_to_a_block_cuts_no_byte_that_was_written() {
    let bench = BenchFile::new();
    assert!(write_back(&bench, 0, 5000));
    // The page that the kernel writes back begins before the old end; the size is set first.
    bench.memory.fail(Fault { after: 1, times: 1, errno: libc::ENOSPC, half_written: false });
    assert!(!write_back(&bench, 4096, 5000));
    bench.memory.heal();
    bench.file.cut_to_written();
    assert!(read_all(&bench.file).unwrap() == pattern(0, 5000), "{} bytes", bench.file.len());
}

#[test]
fn what_a_second_attempt_writes_is_not_lost() {
    let bench = BenchFile::new();
    assert!(write_back(&bench, 0, 5000));
    assert!(write_back(&bench, 60_000, 5000));
    // Into a hole, so that all that follows would be cut.
    refuse(&bench, libc::EDQUOT);
    let again = |write: &mut dyn FnMut() -> Result<(), FileError>| write().or_else(|_| write());
    bench.file.write_back(20_000, &pattern(20_000, 5000), again).unwrap();
    bench.memory.heal();
    bench.file.cut_to_written();
    assert_eq!(bench.file.len(), 65_000);
}

/// As at a quota of btrfs: the first write fails, and so does the cut that takes its length back.
#[test]
fn a_length_that_stays_without_content_gets_a_header() {
    let bench = BenchFile::new();
    bench.memory.fail(Fault { after: 1, times: 3, errno: libc::EDQUOT, half_written: false });
    assert!(!write_back(&bench, 0, 5000));
    assert_eq!(bench.file.len(), 5000);
    // The third failure. Until it is written the file is one that owes a header.
    bench.file.commit().unwrap_err();
    assert!(bench.file.may_need_commit());
    bench.file.commit().unwrap();
    let next = bench.mounts.after_clean_end().context();
    let size = bench.memory.size();
    let file = SealedFile::open(bench.memory.clone(), size, next).unwrap();
    assert!(read_all(&file).unwrap() == [0; 5000], "{} bytes", file.len());
}
