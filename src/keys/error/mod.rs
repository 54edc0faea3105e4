//! Everything that can go wrong with keys. Each message is one sentence, most with a remedy.

mod key_file;
mod policy;
mod protector;
mod recovery;
mod ring;

pub use key_file::KeyFileError;
pub use policy::PolicyError;
pub use protector::ProtectorError;
pub use recovery::RecoveryError;
pub use ring::RingError;

/// Why a key cannot be used, changed, read or stored: the error of every public function of this
/// layer.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// About a master key or one of its versions.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// About a master key's policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// About a passphrase or another protector.
    #[error(transparent)]
    Protector(#[from] ProtectorError),
    /// About the key file on disk.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// About a backup of the ring.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A limit of the key file is reached.
    #[error("the key file is full: it takes at most {limit} {what}")]
    Full {
        /// The items that are limited.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

impl KeyError {
    /// Whether the keys were read and their state, or a limit, forbids the operation. False where the
    /// key file or the passphrase is at fault.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Ring(error) => error.is_refusal(),
            Self::Protector(error) => error.is_refusal(),
            Self::Policy(_) | Self::Full { .. } => true,
            Self::KeyFile(_) | Self::Recovery(_) => false,
        }
    }
}
