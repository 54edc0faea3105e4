//! A vault on a backing directory: sealed files by block range, headers, epochs, names.
//!
//! Content I/O crosses the [`Backing`] trait, so that tests put other files below.

mod access;
mod backing;
mod buffers;
mod checkpoint_file;
mod context;
mod description;
mod doubts;
mod epochs;
mod error;
mod findings;
mod freshness;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gaps;
mod lock;
mod log_limit;
mod marks;
mod names;
mod own_files;
mod probe;
mod range_lock;
mod records;
mod root_attrs;
mod sealed;
mod staging;
mod state;
mod vault;
mod vault_age;
mod vault_error;
mod verify;
mod watched;
mod wrap_choice;

pub use access::Access;
pub use backing::{Backing, RealFile, SyncScope};
pub use checkpoint_file::CheckpointFile;
pub use context::{Context, Identity, WrappedBy};
pub use description::{Description, NameMode};
pub use epochs::EpochRecord;
pub use error::{FileError, IntegrityError};
pub use freshness::{Evidence, Freshness, default_place, path_of_record};
pub use lock::Holder;
pub use log_limit::log_failure;
pub use names::Names;
pub use own_files::METADATA_DIR;
pub use probe::{Lack, Unfit};
pub use range_lock::{RangeGuard, RangeLocks};
pub use root_attrs::RootAttrs;
pub use sealed::{Recovered, Rewrapped, SealedFile, plain_len};
pub use vault::Vault;
pub use vault_error::VaultError;
pub use verify::{Extent, FileReport};
pub use wrap_choice::{KeyChoice, RewrapTarget};
