//! Once all files were recovered and that mount has ended cleanly, no crash explains anything.

use atrest::format::HEADER_LEN;
use atrest::store::{FileError, IntegrityError};

use super::bench_file::{BenchFile, same};
use super::extents::{blocks, crash};
use crate::common_store::{Image, Op, read_all};

#[test]
fn an_extended_file_is_refused_once_the_crash_is_over() {
    let mut bench = BenchFile::made_by(&[blocks(1, 3), Op::Remount]);
    crash(&mut bench);
    let whole = bench.memory.image();
    let longer = || {
        let mut longer = whole.clone();
        longer.set_len(whole.size() + 3 * 4096);
        longer
    };
    let read = |bench: &mut BenchFile, image: Image| {
        bench.memory.replace(image);
        bench.reopen().and_then(|()| read_all(&bench.file))
    };
    // The mount that crashed could have begun to append to it.
    assert!(read(&mut bench, longer()).is_ok() && bench.file.verify().left_by_crash);
    read(&mut bench, whole.clone()).unwrap();
    bench.perform(0, &Op::Recover).unwrap();
    bench.mounts = bench.mounts.after_recovery();
    bench.context = bench.mounts.context();
    assert!(matches!(
        read(&mut bench, longer()),
        Err(FileError::Integrity(IntegrityError::Extended { .. }))
    ));
    same(&read(&mut bench, whole.clone()).unwrap(), &bench.content).unwrap();
}

#[test]
fn an_old_header_of_a_crashed_mount_lets_nothing_be_cut_once_the_crash_is_over() {
    let mut bench = BenchFile::made_by(&[blocks(1, 3), Op::Sync]);
    let old = bench.memory.image().to_bytes()[..HEADER_LEN].to_vec();
    crash(&mut bench);
    bench.perform(0, &Op::Recover).unwrap();
    bench.perform(1, &blocks(4, 6)).unwrap();
    bench.perform(2, &Op::Commit).unwrap();
    bench.mounts = bench.mounts.after_recovery();
    bench.context = bench.mounts.context();
    bench.reopen().unwrap();
    bench.check().unwrap();
    let genuine = bench.memory.image();
    let mut forged = genuine.clone();
    forged.write_at(&old, 0);
    for cut in [genuine.size(), 2 * 4096 + 4064, 3 * 4096 + 1, 7 * 4096 + 4064] {
        forged.set_len(cut);
        bench.memory.replace(forged.clone());
        let found = bench.reopen().and_then(|()| read_all(&bench.file));
        assert!(matches!(found, Err(FileError::Integrity(_))), "{cut} bytes");
    }
}
