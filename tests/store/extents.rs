//! Which blocks may be holes is authenticated: a zeroed block elsewhere is found out, whatever
//! became of the mount that wrote the header.

use atrest::format::{BLOCK_LEN, HEADER_LEN, Header};
use atrest::store::{FileError, IntegrityError};

use super::bench_file::BenchFile;
use crate::common_store::{Call, Fault, Op, Plan, Trouble, read_all};

/// What a reader gets when the block at `index` is zeroed.
fn read_zeroed(bench: &mut BenchFile, index: u64) -> Result<Vec<u8>, FileError> {
    let whole = bench.memory.image();
    let mut zeroed = whole.clone();
    zeroed.put(index, None);
    bench.memory.replace(zeroed);
    let found = bench.reopen().and_then(|()| read_all(&bench.file));
    bench.memory.replace(whole);
    bench.reopen().unwrap();
    found
}

fn is_refused(found: Result<Vec<u8>, FileError>, index: u64) -> bool {
    match found {
        Err(FileError::Integrity(IntegrityError::Zeroed(at))) => at == index,
        _ => false,
    }
}

pub fn crash(bench: &mut BenchFile) {
    bench.mounts = bench.mounts.after_crash();
    bench.context = bench.mounts.context();
    bench.reopen().unwrap();
}

fn header(bench: &BenchFile) -> Header {
    let bytes = bench.memory.image().to_bytes();
    Header::parse(bytes.first_chunk::<HEADER_LEN>().unwrap()).unwrap()
}

/// Plaintext bytes to before block `index`, from 1.
fn start(index: u64) -> u64 {
    3808 + (index - 1) * 4064
}

/// A write of all of `count` blocks from `index`.
pub fn blocks(index: u64, count: u64) -> Op {
    Op::Write { at: start(index), len: count as usize * 4064 }
}

#[test]
fn a_zeroed_block_of_a_sparse_file_is_refused_in_a_hole_it_is_not() {
    let mut bench =
        BenchFile::made_by(&[Op::Write { at: 0, len: 9000 }, blocks(9, 4), Op::Remount]);
    for index in (0..3).chain(9..13) {
        let found = read_zeroed(&mut bench, index);
        assert!(if index == 0 { found.is_err() } else { is_refused(found, index) }, "{index}");
    }
    for index in 3..9 {
        assert!(read_zeroed(&mut bench, index).is_ok_and(|found| found == bench.content));
    }
    bench.perform(1, &blocks(5, 1)).unwrap();
    bench.perform(2, &Op::Remount).unwrap();
    assert!(is_refused(read_zeroed(&mut bench, 5), 5));
    bench.perform(3, &Op::Punch { at: start(10), len: 4064 }).unwrap();
    bench.perform(4, &Op::Remount).unwrap();
    assert!(is_refused(read_zeroed(&mut bench, 11), 11));
    bench.check().unwrap();
    assert_eq!(bench.file.verify().unguarded_blocks, 0);
}

#[test]
fn a_crash_excuses_no_block_that_was_durable() {
    // The second sync's header says that the first one's blocks are durable.
    let mut bench = BenchFile::made_by(&[blocks(1, 4), Op::Sync, blocks(5, 4), Op::Sync]);
    crash(&mut bench);
    for index in 1..5 {
        assert!(is_refused(read_zeroed(&mut bench, index), index), "block {index}");
    }
    // Those the crash could have kept from the disk, for all that the header says.
    assert!(read_zeroed(&mut bench, 6).is_ok());
    let size = bench.memory.size();
    let mut cut = bench.memory.image();
    cut.set_len(4 * 4096 + 4064);
    bench.memory.replace(cut);
    let found = bench.reopen().and_then(|()| read_all(&bench.file));
    assert!(matches!(found, Err(FileError::Integrity(IntegrityError::Cut { .. }))), "{size}");
}

#[test]
fn a_sync_makes_no_block_durable_of_a_write_under_way() {
    let mut bench = BenchFile::made_by(&[blocks(1, 3), Op::Sync, blocks(4, 1), Op::Sync]);
    let data = vec![7; 2 * 4064];
    let others = |number, op: Op| op.perform(number, &bench.file).unwrap();
    let written = bench.file.write_back(start(6), &data, |write| {
        others(1, blocks(9, 2));
        others(2, Op::Sync);
        write()
    });
    written.unwrap();
    others(3, blocks(11, 1));
    others(4, Op::Commit);
    // Of what came after the sync, the header alone has reached the disk.
    let mut left = bench.memory.image();
    for index in [6, 7, 11] {
        left.put(index, None);
    }
    bench.memory.replace(left);
    crash(&mut bench);
    let found = read_all(&bench.file).unwrap();
    assert!(found[start(6) as usize..start(9) as usize].iter().all(|&byte| byte == 0));
}

#[test]
fn a_crash_excuses_no_block_of_a_file_that_it_only_overwrote() {
    let mut bench = BenchFile::made_by(&[blocks(1, 8), Op::Remount, blocks(2, 3), Op::Sync]);
    crash(&mut bench);
    for index in 1..8 {
        assert!(is_refused(read_zeroed(&mut bench, index), index), "block {index}");
    }
}

#[test]
fn more_holes_than_fit_are_merged_and_the_rest_is_counted() {
    let mut bench = BenchFile::new();
    let holes = 60;
    for hole in 0..holes {
        bench.perform(hole as usize % 50, &blocks(2 + hole * 2, 1)).unwrap();
    }
    bench.perform(51, &Op::Remount).unwrap();
    bench.check().unwrap();
    let listed = header(&bench).holes;
    let report = bench.file.verify();
    assert!(report.damage.is_empty(), "{report:?}");
    assert_eq!(listed.extents.spans().len(), 36);
    assert_eq!(report.unguarded_blocks, listed.extents.count() - holes);
    assert_eq!(report.unguarded_blocks, u64::from(listed.uncertain));
    assert!((1..holes).contains(&report.unguarded_blocks), "{}", report.unguarded_blocks);
    // They are looked for when the holes change, and none is left when few are.
    for hole in 3..holes {
        bench.perform(hole as usize % 50, &blocks(1 + hole * 2, 1)).unwrap();
    }
    bench.perform(52, &Op::Remount).unwrap();
    bench.check().unwrap();
    assert_eq!(header(&bench).holes.extents.count(), 3);
    assert_eq!(bench.file.verify().unguarded_blocks, 0);
}

/// As a copy of the vault that keeps no holes has it.
#[test]
fn a_hole_that_became_zeros_stays_one() {
    let mut bench = BenchFile::made_by(&[blocks(1, 3), blocks(8, 3), Op::Sync]);
    let mut full = bench.memory.image();
    for index in 4..8 {
        full.put(index, Some(std::sync::Arc::new([0; BLOCK_LEN])));
    }
    bench.memory.replace(full);
    crash(&mut bench);
    bench.perform(2, &blocks(5, 1)).unwrap();
    bench.perform(3, &Op::Remount).unwrap();
    bench.check().unwrap();
    assert_eq!(bench.file.verify().unguarded_blocks, 0);
    assert_eq!(header(&bench).holes.extents.count(), 3);
}

/// Calls of the backing for a write in the midst of the file, and its sync.
fn calls_of_a_write_and_a_sync(made_by: &[Op]) -> usize {
    let mut bench = BenchFile::made_by(made_by);
    bench.perform(0, &Op::Sync).unwrap();
    let trouble = Trouble::ShortRead;
    bench.memory.plan(Plan { trouble, after: usize::MAX, times: 0, jitter: None });
    for number in 1..=10 {
        bench.perform(number, &blocks(20, 1)).unwrap();
        bench.perform(number, &Op::Sync).unwrap();
    }
    bench.memory.end_plan()
}

#[test]
fn a_file_with_holes_is_looked_through_at_no_commit() {
    let dense = calls_of_a_write_and_a_sync(&[blocks(1, 40), Op::Remount]);
    assert_eq!(calls_of_a_write_and_a_sync(&[blocks(10, 40), Op::Remount]), dense);
    let many: Vec<_> = (5..45).map(|pair| blocks(2 * pair, 1)).collect();
    assert_eq!(calls_of_a_write_and_a_sync(&[&many[..], &[Op::Remount]].concat()), dense);
}

#[test]
fn punches_and_cuts_one_after_the_other_need_few_flushes() {
    let mut bench = BenchFile::made_by(&[blocks(1, 200), Op::Sync, blocks(1, 1), Op::Remount]);
    bench.memory.fail(Fault { after: usize::MAX, times: 0, errno: 5, half_written: false });
    for number in 0..60 {
        bench.perform(0, &Op::Punch { at: start(3 * number + 1), len: 4064 }).unwrap();
        bench.perform(0, &Op::Truncate(start(200 - number / 3))).unwrap();
    }
    let calls = bench.memory.heal();
    let syncs = calls.iter().filter(|call| **call == Call::Sync).count();
    assert!((2..=17).contains(&syncs), "{syncs} flushes");
    bench.check().unwrap();
    bench.perform(0, &Op::Remount).unwrap();
    bench.check().unwrap();
    bench.verify().unwrap();
}

/// What the threat model says stays possible, and no more than that.
#[test]
fn what_stays_unguarded_is_what_the_threat_model_lists() {
    // An old header of the same length brings its holes back.
    let mut bench = BenchFile::made_by(&[blocks(1, 2), blocks(8, 2), Op::Remount]);
    let old = bench.memory.image().to_bytes()[..HEADER_LEN].to_vec();
    bench.perform(1, &blocks(4, 1)).unwrap();
    bench.perform(2, &Op::Remount).unwrap();
    assert!(is_refused(read_zeroed(&mut bench, 4), 4));
    let mut forged = bench.memory.image();
    forged.write_at(&old, 0);
    bench.memory.replace(forged);
    assert!(read_zeroed(&mut bench, 4).is_ok());
    assert!(is_refused(read_zeroed(&mut bench, 8), 8));
    bench.reopen().unwrap();
    bench.check().unwrap();
    assert_eq!(bench.file.verify().unguarded_blocks, 1);
    // So does a header that has no room for all holes apart.
    let mut bench = BenchFile::new();
    for hole in 0..60 {
        bench.perform(hole as usize % 50, &blocks(2 + hole * 2, 1)).unwrap();
    }
    bench.perform(51, &Op::Remount).unwrap();
    let zeroed = (0..60).filter(|hole| read_zeroed(&mut bench, 2 + hole * 2).is_ok()).count();
    assert_eq!(zeroed as u64, bench.file.verify().unguarded_blocks);
}
