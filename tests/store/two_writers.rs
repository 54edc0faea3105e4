//! Two threads write to one file while a call fails: whoever was told that it succeeded has their
//! bytes in the file, nobody waits for ever, and the next mount finds what this one showed.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use atrest::store::{SealedFile, SyncScope};
use rand::RngExt;

use crate::common_store::{Campaign, Memory, Mounts, Plan, Trouble, read_all, rng};

/// A write: where, how long, and the byte that it writes.
type Write = (u64, usize, u8);

#[test]
fn a_failed_write_takes_nothing_from_another() {
    let mut failures = 0;
    for seed in 0..Campaign::pick(600, 100_000) {
        failures += run(seed).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    assert!(failures > 100, "{failures} failures are no campaign");
}

fn run(seed: u64) -> Result<usize, String> {
    let mut rng = rng(seed);
    let (memory, mounts) = (Memory::default(), Mounts::first());
    let file = Arc::new(SealedFile::open(memory.clone(), 0, mounts.context()).unwrap());
    let base = rng.random_range(0..12_000);
    file.write(0, &vec![1; base]).unwrap();
    file.sync(SyncScope::All).unwrap();
    let writes: Vec<Vec<Write>> = (0..2_u8)
        .map(|who| {
            let mut next = |number: u8| {
                let at = rng.random_range(0..base as u64 + 20_000);
                (at, rng.random_range(1..12_000), 2 + who * 10 + number)
            };
            (0..3).map(&mut next).collect()
        })
        .collect();
    let trouble = if seed.is_multiple_of(2) {
        Trouble::Error(libc::ENOSPC)
    } else {
        Trouble::HalfWritten(libc::ENOSPC)
    };
    let (after, times) = (rng.random_range(0..12), rng.random_range(1..3));
    // Slow enough that the writes meet.
    let plan = Plan { trouble, after, times, jitter: Some(Duration::from_micros(400)) };
    memory.plan(plan);
    let began = Instant::now();
    let told: Vec<(Write, bool)> = thread::scope(|scope| {
        let write = |writes: Vec<Write>| {
            let file = Arc::clone(&file);
            move || -> Vec<(Write, bool)> {
                let done = |write: Write| file.write(write.0, &vec![write.2; write.1]).is_ok();
                writes.into_iter().map(|write| (write, done(write))).collect()
            }
        };
        let threads: Vec<_> = writes.into_iter().map(|each| scope.spawn(write(each))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    memory.end_plan();
    assert!(began.elapsed() < Duration::from_secs(60), "stuck");

    let found = read_all(&file).map_err(|error| format!("{plan:?} {told:?}: {error}"))?;
    check(&found, base, &told).map_err(|error| format!("{plan:?} {told:?}: {error}"))?;
    file.sync(SyncScope::All).map_err(|error| format!("{plan:?} {told:?}: sync: {error}"))?;
    let size = memory.size();
    for next in [mounts.after_clean_end(), mounts.after_crash()] {
        let file = SealedFile::open(memory.clone(), size, next.context())
            .map_err(|error| format!("{plan:?} {told:?}: opening: {error}"))?;
        let again = read_all(&file).map_err(|error| format!("{plan:?} {told:?}: {error}"))?;
        if again != found {
            return Err(format!("{plan:?} {told:?}: {} bytes, {} later", found.len(), again.len()));
        }
        let report = file.verify();
        if !report.damage.is_empty() {
            return Err(format!("{plan:?} {told:?}: {report:?}"));
        }
    }
    Ok(told.iter().filter(|(_, done)| !done).count())
}

fn check(found: &[u8], base: usize, told: &[(Write, bool)]) -> Result<(), String> {
    let end = |(at, len, _): Write| at as usize + len;
    let shortest = told.iter().filter(|(_, done)| *done).map(|(write, _)| end(*write));
    let shortest = shortest.fold(base, usize::max);
    let longest = told.iter().map(|(write, _)| end(*write)).fold(base, usize::max);
    if !(shortest..=longest).contains(&found.len()) {
        return Err(format!("{} bytes, where {shortest} to {longest} may be", found.len()));
    }
    for (at, byte) in found.iter().enumerate() {
        let covers = |(from, len, _): Write| (from..from + len as u64).contains(&(at as u64));
        let mut over = told.iter().filter(|(write, _)| covers(*write));
        let written = over.clone().any(|(write, _)| write.2 == *byte);
        let kept = !over.any(|(_, done)| *done);
        let old = if at < base { *byte == 1 } else { *byte == 0 };
        if !(written || kept && old) {
            return Err(format!("byte {at} of {} is {byte}", found.len()));
        }
    }
    Ok(())
}
