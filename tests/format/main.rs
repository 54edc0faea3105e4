//! Format v1 as it is written down: its cipher against published vectors, and bytes that an
//! earlier build made, which every later one must read.

#[path = "../common/bytes.rs"]
mod bytes;

mod ciphers;
mod fixture_vault;
mod unlike;
mod vectors;
