//! A vault on a backing directory: sealed files by block range, headers, epochs, names.
//!
//! Content I/O crosses the [`Backing`] trait, so that tests put other files below.

mod backing;
mod buffers;
mod context;
mod description;
mod epochs;
mod error;
mod gaps;
mod log_limit;
mod names;
mod own_files;
mod probe;
mod range_lock;
mod sealed;
mod state;
mod trail_seal;
mod vault;
mod verify;

pub use backing::{Backing, RealFile};
pub use context::{Context, Identity, WrappedBy};
pub use description::{Description, NameMode};
pub use epochs::EpochRecord;
pub use error::{FileError, IntegrityError};
pub use log_limit::log_failure;
pub use names::Names;
pub use probe::{Lack, Unfit};
pub use range_lock::{RangeGuard, RangeLocks};
pub use sealed::{Recovered, Rewrapped, SealedFile, plain_len};
pub use trail_seal::TrailSeal;
pub use vault::{Access, OWN_DIR, Vault, VaultError};
pub use verify::{Extent, FileReport};
