//! Argon2id (RFC 9106), version 1.3: a key from a passphrase.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroize;

use super::Secret;

/// Why there is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argon2Error {
    /// The cost, or the passphrase's length, is out of Argon2's range.
    OutOfRange,
    /// The memory can't be allocated.
    NoMemory,
}

/// The key that `passphrase` gives with `salt`, at a cost of `passes` over `memory_kib` KiB in
/// `lanes` lanes. The memory is wiped.
///
/// # Errors
/// [`Argon2Error`].
pub fn argon2id(
    passphrase: &[u8],
    salt: &[u8; 16],
    memory_kib: u32,
    passes: u32,
    lanes: u32,
) -> Result<Secret, Argon2Error> {
    let params = Params::new(memory_kib, passes, lanes, Some(32));
    let params = params.map_err(|_| Argon2Error::OutOfRange)?;
    let mut memory: Vec<Block> = Vec::new();
    let blocks = params.block_count();
    memory.try_reserve_exact(blocks).map_err(|_| Argon2Error::NoMemory)?;
    memory.resize(blocks, Block::new());
    let mut key = Secret::zeros();
    let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase, salt, key.expose_mut(), &mut memory);
    memory.iter_mut().for_each(Zeroize::zeroize);
    hashed.map(|()| key).map_err(|_| Argon2Error::OutOfRange)
}
