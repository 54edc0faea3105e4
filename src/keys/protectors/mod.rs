//! Protectors: what opens a key file, like the key slots of LUKS.

mod passphrase;
mod protector;
mod recipient;
mod set;
mod slot;
mod unlock;

pub use passphrase::{CostLimit, Passphrase, PassphraseCost};
pub use protector::{NewProtector, ProtectorDescription, RawProtectors};
pub use set::Protectors;
pub use unlock::{HeldProtector, NoPassphrase, Unlock};

pub(super) use slot::{FileKey, MAX_PROTECTORS, Slot};

#[cfg(test)]
mod tests;
