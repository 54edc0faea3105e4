//! Every sequence of one or two operations, and every state that a crash can leave of it.

use super::recovery::Depth;
use super::scenario::{Before, Scenario};
use crate::common_store::{Campaign, Op};

/// Contents that differ in what their blocks hold; each is about 9000 bytes or three blocks.
fn bases() -> Vec<Vec<Op>> {
    use Op::*;
    vec![
        vec![],
        vec![Write { at: 0, len: 9000 }],
        vec![Write { at: 0, len: 100 }, Truncate(9000)],
        vec![Write { at: 8000, len: 1000 }],
        vec![Write { at: 0, len: 5000 }, Punch { at: 3808, len: 1192 }],
        vec![Write { at: 0, len: 7872 }],
    ]
}

/// Operations by family; each is a sequence of its own.
fn families() -> Vec<Vec<Op>> {
    use Op::*;
    vec![
        vec![Write { at: 9000, len: 600 }],
        vec![Write { at: 9000, len: 5000 }],
        vec![Write { at: 3000, len: 2000 }],
        vec![Write { at: 0, len: 9000 }],
        vec![Write { at: 13_000, len: 100 }],
        vec![Truncate(20_000)],
        vec![Truncate(9500)],
        vec![Truncate(8500)],
        vec![Truncate(5000)],
        vec![Truncate(3808)],
        vec![Truncate(200)],
        vec![Truncate(0)],
        vec![Truncate(0), Write { at: 0, len: 500 }],
        vec![Truncate(0), Write { at: 0, len: 9000 }],
        vec![Punch { at: 3808, len: 4064 }],
        vec![Punch { at: 1000, len: 7000 }],
        vec![Punch { at: 7872, len: 2000 }],
        vec![Rewrap],
        vec![Reopen],
        vec![Allocate { at: 8000, len: 5000 }],
    ]
}

/// Checks each sequence on each base by each kind of earlier mount; shows how many states it saw.
fn check_all(what: &str, sequences: &[Vec<Op>], most: usize, depth: Depth) {
    let (mut scenarios, mut states) = (0, 0);
    for ops in sequences {
        for base in bases() {
            for before in [Before::Same, Before::Clean, Before::Crashed] {
                let scenario = Scenario { before, base: base.clone(), ops: ops.clone() };
                states += scenario.check(most, depth).unwrap_or_else(|error| panic!("{error}"));
                scenarios += 1;
            }
        }
    }
    println!("{what}: {states} crash states of {scenarios} scenarios");
    assert!(states > 2 * scenarios, "hardly anything could be lost");
}

#[test]
fn one_operation() {
    check_all("one operation", &families(), 5000, Depth::CrashAgain);
}

#[test]
fn two_operations() {
    let families = families();
    let pairs: Vec<_> = families
        .iter()
        .flat_map(|first| families.iter().map(move |second| [&first[..], second].concat()))
        .collect();
    check_all("two operations", &pairs, Campaign::pick(500, 20_000), Depth::LiveOn);
}

#[test]
fn two_operations_with_a_sync_between() {
    let families = families();
    let pairs: Vec<_> = families
        .iter()
        .flat_map(|first| {
            families.iter().map(move |second| [&first[..], &[Op::Sync], second].concat())
        })
        .collect();
    check_all("with a sync between", &pairs, Campaign::pick(500, 20_000), Depth::LiveOn);
}
