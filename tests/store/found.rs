//! Sequences that once failed, as short as they got.

use super::bench_file::BenchFile;
use crate::common_store::{Fault, Op};

#[test]
fn a_first_write_that_could_not_begin_leaves_no_key_behind() {
    let mut bench = BenchFile::new();
    bench.memory.fail(Fault { after: 0, times: 1, errno: 27, half_written: false });
    bench.perform(0, &Op::Write { at: 5000, len: 10 }).unwrap_err();
    bench.memory.heal();
    bench.perform(1, &Op::Write { at: 5000, len: 10 }).unwrap();
    // The daemon dies: nothing is committed, and everything written is there.
    bench.mounts = bench.mounts.after_crash();
    bench.context = bench.mounts.context();
    bench.reopen().unwrap();
    bench.check().unwrap();
}

#[test]
fn what_a_failed_append_left_in_the_last_block_does_not_come_back() {
    let mut bench = BenchFile::made_by(&[Op::Write { at: 0, len: 100 }]);
    bench.memory.fail(Fault { after: 1, times: 1, errno: 28, half_written: true });
    bench.perform(0, &Op::Write { at: 100, len: 6000 }).unwrap_err();
    bench.memory.heal();
    bench.check().unwrap();
    bench.perform(1, &Op::Truncate(3000)).unwrap();
    bench.check().unwrap();
}

#[test]
fn a_shrink_that_failed_half_way_leaves_a_file_that_can_be_read() {
    let mut bench = BenchFile::made_by(&[Op::Write { at: 0, len: 9000 }]);
    bench.memory.fail(Fault { after: 1, times: 1, errno: 5, half_written: false });
    bench.perform(0, &Op::Truncate(2000)).unwrap_err();
    bench.memory.heal();
    bench.content.truncate(3808);
    bench.perform(1, &Op::Remount).unwrap();
    assert_eq!(bench.file.read_with(0, 9000, <[u8]>::to_vec).unwrap(), bench.content);
}
