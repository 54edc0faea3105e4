//! Longer sequences than can all be tried: drawn at random, and cut down when one fails.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::recovery::Depth;
use super::scenario::{Before, Scenario};
use crate::common_store::{Campaign, Op, rng};

/// Where something changes: the ends of the first blocks, in plaintext and in the vault.
const EDGES: [u64; 8] = [0, 100, 3808, 4096, 7872, 8192, 11_936, 16_000];

#[test]
fn sequences_of_two_to_four() {
    check_many("two to four", 2..=4, 1, Campaign::pick(2500, 100_000));
}

#[test]
fn sequences_of_five_to_twelve() {
    check_many("five to twelve", 5..=12, 2, Campaign::pick(700, 30_000));
}

/// Checks `count` random scenarios; of one that fails, shows the shortest that still does.
fn check_many(what: &str, length: std::ops::RangeInclusive<usize>, seed: u64, count: usize) {
    let (mut rng, mut states) = (rng(seed), 0);
    for _ in 0..count {
        let scenario = draw(&mut rng, length.clone());
        match scenario.check(60, Depth::LiveOn) {
            Ok(seen) => states += seen,
            Err(error) => panic!("{}", shrink(scenario, error)),
        }
    }
    println!("sequences of {what}: {states} crash states of {count} scenarios");
    assert!(states > 2 * count, "hardly anything could be lost");
}

fn draw(rng: &mut Xoshiro256PlusPlus, length: std::ops::RangeInclusive<usize>) -> Scenario {
    let before = match rng.random_range(0..3) {
        0 => Before::Same,
        1 => Before::Clean,
        _ => Before::Crashed,
    };
    let base = (0..rng.random_range(0..=3)).map(|_| draw_op(rng)).filter(Op::changes_content);
    let base = base.collect();
    let ops = (0..rng.random_range(length)).map(|_| draw_op(rng)).collect();
    Scenario { before, base, ops }
}

fn draw_op(rng: &mut Xoshiro256PlusPlus) -> Op {
    let at = draw_offset(rng);
    let len = draw_offset(rng).max(1);
    match rng.random_range(0..20) {
        0..=5 => Op::Write { at, len: len as usize },
        6..=8 => Op::Truncate(at),
        9 => Op::Truncate(0),
        10..=11 => Op::Punch { at, len },
        12 => Op::Allocate { at, len },
        13 => Op::Copy { from: draw_offset(rng), to: at, len: len as usize },
        14 => Op::Commit,
        15 => Op::Reopen,
        16 => Op::Rewrap,
        17 => Op::Remount,
        18 => Op::Recover,
        _ => Op::Sync,
    }
}

fn draw_offset(rng: &mut Xoshiro256PlusPlus) -> u64 {
    let edge = EDGES[rng.random_range(0..EDGES.len())];
    match rng.random_range(0..3) {
        0 => edge,
        1 => (edge + rng.random_range(0..3)).saturating_sub(1),
        _ => rng.random_range(0..14_000),
    }
}

/// Leaves out operations for as long as what remains fails too; tells how.
fn shrink(mut scenario: Scenario, mut error: String) -> String {
    let mut left_out = 0;
    while left_out < scenario.base.len() + scenario.ops.len() {
        let mut shorter = scenario.clone();
        match left_out.checked_sub(shorter.base.len()) {
            None => drop(shorter.base.remove(left_out)),
            Some(number) => drop(shorter.ops.remove(number)),
        }
        match shorter.check(500, Depth::LiveOn) {
            Err(shorter_error) => (scenario, error) = (shorter, shorter_error),
            Ok(_) => left_out += 1,
        }
    }
    error
}
