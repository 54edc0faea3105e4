//! What somebody does who can write to the vault and has no key: it is found out at read, and by
//! verify, and no byte is ever read that was not written.

mod blocks;
mod crashes;
mod flips;
mod own_files;
pub mod sealed_vault;
mod sizes;

use sealed_vault::SealedVault;
