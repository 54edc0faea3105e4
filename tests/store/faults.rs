//! A backing filesystem that fails: whichever call it is, the caller is told, what was there
//! before is still there, and the file can be used further.

use super::bench_file::{BenchFile, same};
use crate::common_store::{Call, Fault, Op, read_all};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

fn bases() -> Vec<Vec<Op>> {
    use Op::*;
    vec![
        vec![],
        vec![Write { at: 0, len: 100 }],
        vec![Write { at: 0, len: 9000 }],
        vec![Write { at: 0, len: 9000 }, Remount],
        vec![Write { at: 0, len: 100 }, Truncate(9000), Remount],
        vec![Write { at: 9000, len: 1000 }, Reopen],
    ]
}

fn ops() -> Vec<Op> {
    use Op::*;
    vec![
        Write { at: 0, len: 50 },
        Write { at: 50, len: 20_000 },
        Write { at: 4000, len: 100 },
        Write { at: 9000, len: 500 },
        Write { at: 20_000, len: 10_000 },
        Truncate(20_000),
        Truncate(9500),
        Truncate(8500),
        Truncate(5000),
        Truncate(50),
        Truncate(0),
        Punch { at: 1000, len: 7000 },
        Punch { at: 3808, len: 4064 },
        Allocate { at: 5000, len: 10_000 },
        Commit,
        Sync,
        Rewrap,
    ]
}

/// Lets each call in turn fail, of each operation on each base. `check` is given the file, the
/// operation and what it returned, and the calls there were.
fn each_fault(
    times: usize,
    check: impl Fn(&mut BenchFile, &Op, bool, &[Call]) -> Result<(), String>,
) {
    let mut faults = 0;
    for base in bases() {
        for op in ops() {
            for (errno, half_written) in [(ENOSPC, false), (EIO, true)] {
                for after in 0.. {
                    let mut bench = BenchFile::made_by(&base);
                    bench.memory.fail(Fault { after, times, errno, half_written });
                    let failed = bench.perform(1, &op).is_err();
                    let calls = bench.memory.heal();
                    if calls.len() <= after {
                        break;
                    }
                    faults += 1;
                    check(&mut bench, &op, failed, &calls).unwrap_or_else(|error| {
                        panic!("{error}\ncall {after} of {calls:?} fails with {errno}, half written {half_written}\n{op:?} on {base:?}")
                    });
                }
            }
        }
    }
    println!("{faults} faults");
    assert!(faults > 200, "only {faults} calls could fail");
}

#[test]
fn one_failing_call_leaves_the_old_content_and_length() {
    each_fault(1, |bench, op, failed, _| {
        let mut done = bench.content.clone();
        op.apply(1, &mut done);
        let found = read_all(&bench.file).map_err(|error| format!("reading: {error}"))?;
        match op {
            // Cut and not yet of its new length, it is somewhere between.
            Op::Truncate(_) if failed && done.len() < bench.content.len() => {
                let longest = &bench.content[..found.len().min(bench.content.len())];
                if found.len() < done.len() {
                    return Err(format!("{} bytes, fewer than asked for", found.len()));
                }
                same(&found, longest)?;
            }
            Op::Truncate(_) if !failed => same(&found, &done)?,
            _ if !failed => return Err("the failure was not told".to_owned()),
            Op::Write { .. } => mixture(&found, &bench.content, &done)?,
            _ => same(&found, &bench.content)?,
        }
        bench.content = found;
        live_on(bench)
    });
}

#[test]
fn a_disk_that_stays_broken_damages_no_file() {
    each_fault(usize::MAX, |bench, op, _, _| {
        let mut done = bench.content.clone();
        op.apply(1, &mut done);
        let found = read_all(&bench.file).map_err(|error| format!("reading: {error}"))?;
        // Not even the old length can be promised; but there are no bytes that nobody wrote.
        for (at, byte) in found.iter().enumerate() {
            let known =
                *byte == 0 || [&bench.content, &done].iter().any(|c| c.get(at) == Some(byte));
            if !known {
                return Err(format!("byte {at} is {byte}"));
            }
        }
        let lost = bench.content.iter().zip(&done).zip(&found);
        let lost = lost.filter(|((old, new), found)| old == new && old != found).count();
        let cut = matches!(op, Op::Truncate(_)) && found.len() < bench.content.len();
        if (lost > 0 || found.len() < bench.content.len()) && !cut {
            return Err(format!("{lost} bytes lost, {} left", found.len()));
        }
        bench.content = found;
        live_on(bench)
    });
}

/// Each byte is the old one or the new one, and the length is the old one.
fn mixture(found: &[u8], old: &[u8], new: &[u8]) -> Result<(), String> {
    let wrong =
        (0..found.len()).find(|&at| found[at] != old[at] && Some(&found[at]) != new.get(at));
    match wrong {
        _ if found.len() != old.len() => Err(format!("{} bytes, not {}", found.len(), old.len())),
        Some(at) => Err(format!("byte {at} is {}", found[at])),
        None => Ok(()),
    }
}

/// The file is read, made longer, written to and read by another mount.
fn live_on(bench: &mut BenchFile) -> Result<(), String> {
    let len = bench.content.len() as u64;
    let ops = [
        Op::Truncate(len + 5000),
        Op::Reopen,
        Op::Write { at: len + 9000, len: 100 },
        Op::Write { at: 4000, len: 10 },
        Op::Remount,
        Op::Truncate(len / 2),
        Op::Remount,
    ];
    bench.verify()?;
    for (number, op) in (50..).zip(&ops) {
        bench.perform(number, op).map_err(|error| format!("{op:?} later: {error}"))?;
        bench.check().map_err(|error| format!("after {op:?} later: {error}"))?;
    }
    bench.verify()
}
