//! A sync in the midst of other work fails, and the kernel will not report the lost write again.

use atrest::format::stored_len;
use atrest::store::{Backing, SyncScope};

use super::bench_file::BenchFile;
use crate::common_store::{Call, Fault, Op};

/// Does `op` while the call after `after` others fails; returns the calls there were.
fn calls_of(bench: &mut BenchFile, op: &Op, after: usize) -> (bool, Vec<Call>) {
    let fault = Fault { after, times: 1, errno: libc::EIO, half_written: false };
    bench.memory.fail(fault);
    let done = bench.perform(1, op).is_ok();
    (done, bench.memory.heal())
}

#[test]
fn a_cut_writes_its_header_again_and_the_next_sync_fails_once() {
    let mut bench = BenchFile::made_by(&[Op::Write { at: 0, len: 9000 }, Op::Remount]);
    let cut = Op::Truncate(5000);
    assert_eq!(calls_of(&mut bench, &cut, 1), (false, vec![Call::Write, Call::Sync]));
    let (done, calls) = calls_of(&mut bench, &cut, usize::MAX);
    assert!(done && calls.starts_with(&[Call::Write, Call::Sync, Call::SetLen]), "{calls:?}");
    bench.file.sync(SyncScope::All).unwrap_err();
    bench.file.sync(SyncScope::All).unwrap();
}

#[test]
fn a_growth_mends_the_tail_again_and_makes_it_durable_first() {
    let mut bench = BenchFile::made_by(&[Op::Write { at: 0, len: 5000 }]);
    // A crash leaves a size, and a last block of more than that.
    bench.memory.set_len(stored_len(4500)).unwrap();
    bench.content.truncate(4500);
    bench.mounts = bench.mounts.after_crash();
    bench.context = bench.mounts.context();
    bench.reopen().unwrap();
    let grow = Op::Truncate(20_000);
    assert_eq!(calls_of(&mut bench, &grow, 1), (false, vec![Call::Write, Call::Sync]));
    let (done, calls) = calls_of(&mut bench, &grow, usize::MAX);
    let synced = calls.iter().position(|&call| call == Call::Sync);
    let sized = calls.iter().position(|&call| call == Call::SetLen);
    assert!(done && calls[0] == Call::Write && synced.is_some() && synced < sized, "{calls:?}");
    bench.check().unwrap();
}
