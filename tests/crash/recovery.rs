//! What becomes of a file after a crash: it is read, and used further, by the mount that comes
//! next and by those after it, one of which may crash again.

use atrest::format::{BLOCK_LEN, HEADER_LEN};
use rand::rngs::Xoshiro256PlusPlus;

use super::disk::{CrashDisk, Interval};
use super::scenario::{Rest, Run, open, rotate, run};
use crate::common_store::{Campaign, Image, Mounts, Op, read_all};

/// How thorough a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Each state is read, and lives on in some of the ways there are, taking turns.
    LiveOn,
    /// Each state lives on in every way, and through a second crash.
    CrashAgain,
}

/// Reopens the states of each interval; returns how many there were, second crashes included.
pub fn check_run(
    run: &Run,
    most: usize,
    depth: Depth,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<usize, String> {
    let (mut states, mut result) = (0, Ok(()));
    for (number, interval) in run.intervals.iter().enumerate() {
        let mut again = rng.clone();
        interval.each_state(most, rng, |image| {
            states += 1;
            if result.is_ok() {
                let size = image.size();
                result = check_state(run, interval, image, depth, states, &mut again)
                    .map(|more| states += more)
                    .map_err(|error| {
                        format!("{error}\nstate {states} of {size} bytes, interval {number}")
                    });
            }
        });
    }
    result.map(|()| states)
}

fn check_state(
    run: &Run,
    interval: &Interval,
    image: Image,
    depth: Depth,
    turn: usize,
    rng: &mut Xoshiro256PlusPlus,
) -> Result<usize, String> {
    let mounts = run.mounts[interval.mount].after_crash();
    let disk = CrashDisk::new(image.clone());
    let file = open(&disk, &mounts.context())?;
    let content = read_all(&file).map_err(|error| format!("after the crash: {error}"))?;
    run.allows(interval, &content)?;
    let report = file.verify();
    if !report.damage.is_empty() {
        return Err(format!("verify after the crash: {:?}", report.damage));
    }
    let seen = open(&disk, &run.mounts[interval.mount].looked_at().context())?;
    if read_all(&seen).ok() != Some(content.clone()) {
        return Err("a read-only mount reads something else".to_owned());
    }
    recover(image.clone(), &mounts, &content)?;
    let header = image.block(0).map_or(&[][..], |block| &block[..HEADER_LEN]);
    let lost = header.iter().all(|&byte| byte == 0);
    let rest = Rest { image, mounts, content, lost };
    let lives = lives(rest.content.len() as u64);
    let chosen = match depth {
        Depth::LiveOn => vec![turn % lives.len(), (turn / 2) % lives.len()],
        Depth::CrashAgain => (0..lives.len()).collect(),
    };
    let mut states = 0;
    for life in chosen {
        let life = &lives[life];
        live_on(rest.clone(), life).map_err(|error| format!("{error}\nliving on: {life:?}"))?;
        if depth == Depth::CrashAgain {
            states += crash_again(rest.clone(), life, rng)?;
        }
    }
    Ok(states)
}

/// The file is recovered and that mount ends cleanly: nothing needs the crash any more.
fn recover(image: Image, mounts: &Mounts, content: &[u8]) -> Result<(), String> {
    let disk = CrashDisk::new(image);
    let file = open(&disk, &mounts.context())?;
    Op::Recover.perform(0, &file).map_err(|error| format!("recovering: {error}"))?;
    let before = mounts.after_recovery();
    // Recovered once more, there is nothing left to do.
    for mounts in [before.clone(), before.after_clean_end()] {
        let file = open(&disk, &mounts.context())?;
        let found = read_all(&file).map_err(|error| format!("once recovered: {error}"))?;
        if found != content {
            return Err("a file that was recovered reads otherwise".to_owned());
        }
        let report = file.verify();
        if !report.damage.is_empty() || report.left_by_crash || report.unguarded_blocks > 0 {
            return Err(format!("verify once recovered: {report:?}"));
        }
        let first = disk.image().to_bytes();
        let context = mounts.context();
        if let Some(header) = first.first_chunk::<HEADER_LEN>()
            && context.needs_recovery(header, first.len() as u64)
            && !first.len().is_multiple_of(BLOCK_LEN)
        {
            return Err("a file that was recovered asks for it again".to_owned());
        }
        zero_each_block(&disk.image(), &mounts, content)?;
    }
    Ok(())
}

/// Somebody zeroes a block: that is found out at read, but of a hole.
fn zero_each_block(image: &Image, mounts: &Mounts, content: &[u8]) -> Result<(), String> {
    for index in image.indices() {
        let mut zeroed = image.clone();
        zeroed.put(index, None);
        let disk = CrashDisk::new(zeroed);
        match open(&disk, &mounts.context()).map(|file| read_all(&file)) {
            Ok(Ok(found)) if found != content => {
                return Err(format!("block {index} zeroed goes unnoticed once recovered"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What files go through after a crash, by their length.
fn lives(len: u64) -> Vec<Vec<Op>> {
    use Op::*;
    let touch = match len {
        0 => Truncate(0),
        _ => Write { at: len / 2, len: 1 },
    };
    vec![
        vec![Commit, Remount, Truncate(len + 9000)],
        vec![touch.clone(), Remount, Truncate(len + 9000), Remount],
        vec![Truncate(len + 200), Remount, Write { at: len + 9000, len: 10 }, Remount],
        vec![Write { at: len + 5000, len: 4000 }, Reopen, Truncate(len + 20_000), Remount],
        vec![Write { at: len, len: 300 }, Remount, Write { at: len + 300, len: 8000 }, Remount],
        vec![Truncate(len / 2), Remount, Truncate(len + 9000), Remount],
        vec![Truncate(len / 2 + 1), Write { at: len, len: 100 }, Remount, Truncate(len * 2 + 5000)],
        vec![Allocate { at: len / 2, len: len + 9000 }, Remount, touch.clone(), Remount],
        vec![Punch { at: len / 3, len: len / 2 }, Remount, Truncate(len + 9000), Remount],
        vec![Recover, Remount, touch.clone(), Truncate(len + 9000), Remount],
        vec![Truncate(len + 9000), Recover, Punch { at: len / 3, len: len + 5000 }, Remount],
        vec![Rewrap, Remount, Truncate(len + 5000), Remount, Rewrap, Remount],
        vec![Truncate(0), Write { at: 4000, len: 100 }, Remount, Truncate(9000), Remount],
        vec![touch, Sync, Reopen, Truncate(len / 2 + 100), Truncate(len + 9000), Remount],
    ]
}

/// Goes on with the file, reading it after each step: there is exactly what there should be.
fn live_on(rest: Rest, ops: &[Op]) -> Result<(), String> {
    let Rest { image, mut mounts, mut content, .. } = rest;
    let disk = CrashDisk::new(image);
    let mut context = mounts.context();
    let mut file = open(&disk, &context)?;
    for (number, op) in (50..).zip(ops) {
        op.apply(number, &mut content);
        if *op == Op::Rewrap {
            rotate(&mut mounts, &context);
        }
        op.perform(number, &file).map_err(|error| format!("{op:?} later: {error}"))?;
        if *op == Op::Remount {
            mounts = mounts.after_clean_end();
            context = mounts.context();
        }
        if matches!(op, Op::Remount | Op::Reopen) {
            file = open(&disk, &context)?;
        }
        let found = read_all(&file).map_err(|error| format!("after {op:?} later: {error}"))?;
        if found != content {
            let at = found.iter().zip(&content).position(|(found, right)| found != right);
            let (len, right) = (found.len(), content.len());
            return Err(format!("{len} bytes, not {right}; differs at {at:?} after {op:?} later"));
        }
    }
    let damage = file.verify().damage;
    if damage.is_empty() { Ok(()) } else { Err(format!("verify later: {damage:?}")) }
}

/// The mount that does all this crashes too.
fn crash_again(rest: Rest, ops: &[Op], rng: &mut Xoshiro256PlusPlus) -> Result<usize, String> {
    let until_remount: Vec<_> = ops.iter().take_while(|op| **op != Op::Remount).cloned().collect();
    let run = run(rest, &until_remount)?;
    check_run(&run, Campaign::pick(5, 20), Depth::LiveOn, rng)
        .map_err(|error| format!("{error}\nsecond crash, after {until_remount:?}"))
}
