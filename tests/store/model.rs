//! Random operations on a sealed file and on a plain vector of bytes: the two stay the same.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::bench_file::{BenchFile, same};
use crate::common_store::{Campaign, Op, rng};

/// Where something changes: around the ends of blocks, in plaintext and in the vault.
const EDGES: [u64; 12] = [0, 1, 100, 3808, 4064, 4096, 7872, 8192, 11_936, 12_288, 16_000, 40_960];

#[test]
fn a_sealed_file_is_like_a_vector_of_bytes() {
    for seed in 0..Campaign::pick(300, 20_000) {
        let mut rng = rng(seed);
        let ops: Vec<_> = (0..40).map(|_| draw(&mut rng)).collect();
        if let Err(error) = run(&ops) {
            let (ops, error) = shrink(ops, error);
            panic!("seed {seed}: {error}\n{ops:?}");
        }
    }
}

/// Does all of `ops`, with a look at the file after each.
pub fn run(ops: &[Op]) -> Result<(), String> {
    let mut bench = BenchFile::new();
    for (number, op) in ops.iter().enumerate() {
        let at = |error| format!("after operation {number}, {op:?}: {error}");
        bench.perform(number, op).map_err(|error| at(error.to_string()))?;
        bench.check().map_err(at)?;
        let middle = bench.content.len() / 3;
        let part = bench.file.read_with(middle as u64, 5000, <[u8]>::to_vec);
        let part = part.map_err(|error| at(error.to_string()))?;
        let end = bench.content.len().min(middle + 5000);
        same(&part, &bench.content[middle..end]).map_err(at)?;
    }
    bench.verify()?;
    bench.perform(ops.len(), &Op::Remount).map_err(|error| error.to_string())?;
    bench.check()?;
    bench.verify()
}

pub fn draw(rng: &mut Xoshiro256PlusPlus) -> Op {
    let at = draw_offset(rng);
    let len = draw_offset(rng).max(1);
    match rng.random_range(0..24) {
        0..=6 => Op::Write { at, len: len as usize },
        7..=9 => Op::Write { at, len: rng.random_range(1..200) },
        10..=12 => Op::Truncate(at),
        13..=14 => Op::Punch { at, len },
        15 => Op::Allocate { at, len },
        16 => Op::Reserve { at, len },
        17 => Op::Copy { from: draw_offset(rng), to: at, len: len as usize },
        18 => Op::Commit,
        19 => Op::Sync,
        20 => Op::Rewrap,
        21 => Op::Remount,
        _ => Op::Reopen,
    }
}

fn draw_offset(rng: &mut Xoshiro256PlusPlus) -> u64 {
    let edge = EDGES[rng.random_range(0..EDGES.len())];
    match rng.random_range(0..3) {
        0 => edge,
        1 => (edge + rng.random_range(0..3)).saturating_sub(1),
        _ => rng.random_range(0..20_000),
    }
}

/// Leaves out operations for as long as the rest fails too.
fn shrink(mut ops: Vec<Op>, mut error: String) -> (Vec<Op>, String) {
    let mut left_out = 0;
    while left_out < ops.len() {
        let mut shorter = ops.clone();
        shorter.remove(left_out);
        match run(&shorter) {
            Err(shorter_error) => (ops, error) = (shorter, shorter_error),
            Ok(()) => left_out += 1,
        }
    }
    (ops, error)
}
