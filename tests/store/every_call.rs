//! Each call of the backing in turn is in trouble, reads too, over sequences of operations. Whoever
//! asked is told; what was there stays; the same operation succeeds when tried again; and whether
//! the mount then ends cleanly or dies, the next one finds the same bytes.

use std::time::Duration;

use atrest::store::SyncScope;
use rand::RngExt;

use super::bench_file::{BenchFile, same};
use super::model::draw;
use crate::common_store::{Campaign, Op, Plan, Trouble, read_all, rng};

const TROUBLES: [Trouble; 8] = [
    Trouble::Error(libc::EIO),
    Trouble::Error(libc::ENOSPC),
    Trouble::Error(libc::EDQUOT),
    Trouble::Error(libc::EINTR),
    Trouble::Error(libc::EROFS),
    Trouble::HalfWritten(libc::ENOSPC),
    Trouble::ShortRead,
    Trouble::Delay(Duration::from_micros(50)),
];

/// How a run ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Clean,
    Crash,
}

/// Every operation once or more, on content and around its end.
fn every_operation() -> Vec<Op> {
    use Op::*;
    vec![
        Write { at: 0, len: 100 },
        Write { at: 100, len: 9000 },
        Sync,
        Write { at: 4000, len: 3000 },
        Write { at: 9100, len: 5000 },
        Commit,
        Truncate(9000),
        Truncate(20_000),
        Remount,
        Write { at: 15_000, len: 100 },
        Punch { at: 3000, len: 6000 },
        Allocate { at: 18_000, len: 5000 },
        Reserve { at: 0, len: 40_000 },
        Copy { from: 0, to: 21_000, len: 5000 },
        Rewrap,
        Remount,
        Truncate(5000),
        Reopen,
        Write { at: 30_000, len: 9000 },
        Punch { at: 0, len: 50_000 },
        Truncate(0),
        Write { at: 5000, len: 5000 },
        Remount,
    ]
}

#[test]
fn one_call_in_trouble_loses_nothing() {
    let mut runs = each_plan(&every_operation(), 1, 1);
    for seed in 0..Campaign::pick(4, 400) {
        let mut rng = rng(seed);
        let ops: Vec<_> = (0..rng.random_range(3..12)).map(|_| draw(&mut rng)).collect();
        runs += each_plan(&ops, 1, Campaign::pick(5, 1));
    }
    Campaign::report(format!("{runs} runs"));
    assert!(runs > 200, "{runs} runs are no campaign");
}

/// Until somebody mends it: then what could not be done is done when tried again.
#[test]
fn calls_in_trouble_for_a_while_lose_nothing() {
    for times in [2, 3, 7, usize::MAX] {
        each_plan(&every_operation(), times, Campaign::pick(3, 1));
    }
}

/// Runs `ops` with each trouble at each call, `step` calls apart; returns how many runs that were.
fn each_plan(ops: &[Op], times: usize, step: usize) -> usize {
    let mut runs = 0;
    for trouble in TROUBLES {
        for end in [End::Clean, End::Crash] {
            for after in (0..).step_by(step) {
                let plan = Plan { trouble, after, times, jitter: None };
                let calls = run(ops, plan, end)
                    .unwrap_or_else(|error| panic!("{plan:?}, {end:?}: {error}\n{ops:?}"));
                if calls <= after {
                    break;
                }
                runs += 1;
            }
        }
    }
    runs
}

fn run(ops: &[Op], plan: Plan, end: End) -> Result<usize, String> {
    let mut bench = BenchFile::new();
    bench.memory.plan(plan);
    for (number, op) in ops.iter().enumerate() {
        let at = |error: String| format!("operation {number}, {op:?}: {error}");
        let before = bench.content.clone();
        let done = bench.perform(number, op).is_ok();
        let memory = bench.memory.clone();
        let look = memory.at_rest(|| {
            if !done {
                take_back(&mut bench, op, number, &before, plan.times > 1)?;
                // Tried again while nothing fails.
                bench.perform(number, op).map_err(|error| format!("again: {error}"))?;
            }
            bench.check()
        });
        look.map_err(at)?;
        let read = read_all(&bench.file);
        if let Ok(found) = read {
            same(&found, &bench.content).map_err(|error| at(format!("a read: {error}")))?;
        }
    }
    let calls = bench.memory.end_plan();
    match end {
        End::Clean => bench.perform(ops.len(), &Op::Remount).map_err(|error| error.to_string())?,
        End::Crash => {
            bench.file.sync(SyncScope::All).map_err(|error| error.to_string())?;
            bench.mounts = bench.mounts.after_crash();
            bench.context = bench.mounts.context();
            bench.reopen().map_err(|error| error.to_string())?;
        }
    }
    bench.check().map_err(|error| format!("at the end: {error}"))?;
    bench.verify().map_err(|error| format!("at the end: {error}"))?;
    Ok(calls)
}

/// After `op` has failed: each byte is an old or a new one, and the length is the old one, or that
/// of a cut which was on its way. Where what was to take a growth back may have failed too, the
/// file may have stayed longer.
fn take_back(
    bench: &mut BenchFile,
    op: &Op,
    number: usize,
    before: &[u8],
    may_stay_longer: bool,
) -> Result<(), String> {
    let found = match read_all(&bench.file) {
        Ok(found) => found,
        // The file was to be opened anew, and was not.
        Err(_) if matches!(op, Op::Reopen | Op::Remount) => {
            bench.reopen().map_err(|error| format!("reopening: {error}"))?;
            read_all(&bench.file).map_err(|error| format!("reading: {error}"))?
        }
        Err(error) => return Err(format!("reading: {error}")),
    };
    let mut after = before.to_vec();
    op.apply(number, &mut after);
    let cut = matches!(op, Op::Truncate(_)) && after.len() < before.len();
    let right_length = found.len() == before.len()
        || cut && (after.len()..before.len()).contains(&found.len())
        || may_stay_longer && (before.len()..=after.len()).contains(&found.len());
    if !right_length {
        return Err(format!("{} bytes, not {}", found.len(), before.len()));
    }
    let right = |at: usize| {
        let old = before.get(at).unwrap_or(&0);
        found[at] == *old || Some(&found[at]) == after.get(at)
    };
    if let Some(at) = (0..found.len()).find(|&at| !right(at)) {
        return Err(format!("byte {at} is {}, was {:?}", found[at], before.get(at)));
    }
    bench.content = found;
    Ok(())
}
