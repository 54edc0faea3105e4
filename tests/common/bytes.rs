//! Bytes to write, and the random numbers of a seed.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

/// Numbers that a seed decides, on any machine and in any version of the library.
pub fn rng(seed: u64) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(seed)
}

/// `len` incompressible bytes that `seed` decides; no 16 of them come twice by chance.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    rng(seed).fill_bytes(&mut bytes);
    bytes
}

/// `len` bytes of which each one tells where it lies: never zero, with a period (251) that is
/// prime to every block size, so that bytes moved by a block are found out.
pub fn pattern(offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64).map(|at| (at % 251) as u8 + 1).collect()
}
