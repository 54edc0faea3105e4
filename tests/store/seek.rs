//! SEEK_DATA and SEEK_HOLE: what is called a hole reads as zeros, and punched blocks are called so.

use super::bench_file::BenchFile;
use crate::common_store::Op;

/// The ranges that are called holes, the end of the file not among them.
fn holes(bench: &BenchFile) -> Vec<(u64, u64)> {
    let (mut holes, mut at, len) = (Vec::new(), 0, bench.file.len());
    while let Some(hole) = bench.file.next_hole(at).unwrap().filter(|&hole| hole < len) {
        let data = bench.file.next_data(hole).unwrap().unwrap_or(len);
        assert!(data > hole, "a hole at {hole} ends at {data}");
        holes.push((hole, data));
        at = data;
        if at == len {
            break;
        }
    }
    holes
}

#[test]
fn a_file_that_was_written_throughout_has_no_hole() {
    let bench = BenchFile::made_by(&[Op::Write { at: 0, len: 20_000 }]);
    assert_eq!(holes(&bench), []);
    assert_eq!(bench.file.next_hole(5).unwrap(), Some(20_000));
    assert_eq!(bench.file.next_data(19_999).unwrap(), Some(19_999));
    assert_eq!(
        (bench.file.next_data(20_000).unwrap(), bench.file.next_hole(20_000).unwrap()),
        (None, None)
    );
}

#[test]
fn a_punched_block_is_a_hole_and_reads_as_zeros() {
    let bench =
        BenchFile::made_by(&[Op::Write { at: 0, len: 20_000 }, Op::Punch { at: 3000, len: 9000 }]);
    assert_eq!(holes(&bench), [(3808, 11_936)]);
    assert!(bench.content[3808..11_936].iter().all(|&byte| byte == 0));
}

#[test]
fn what_a_growth_added_is_a_hole_to_the_end() {
    let bench = BenchFile::made_by(&[Op::Write { at: 0, len: 100 }, Op::Truncate(9000)]);
    assert_eq!(holes(&bench), [(3808, 9000)]);
    assert_eq!(bench.file.next_data(4000).unwrap(), None);
}
