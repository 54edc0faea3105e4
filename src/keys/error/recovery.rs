//! Errors of recovery texts and words.

use std::path::PathBuf;

use crate::format::VaultId;
use crate::sys::Show;

/// Why a backup cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// A backup of another vault's keys.
    #[error("the backup {} is of vault {found}, not of vault {wanted}", .path.shown())]
    OtherVault {
        /// The backup.
        path: PathBuf,
        /// The vault that it is of.
        found: VaultId,
        /// The vault at hand.
        wanted: VaultId,
    },
    /// A line of the recovery text is mistyped, missing or out of order.
    #[error("line {0} of the recovery text is wrong or missing; compare it with the original")]
    Line(u32),
    /// A recovery word is not in the list.
    #[error("word {0} of the recovery words is not one of the list; compare it with the original")]
    Word(u32),
    /// The recovery text is incomplete, or its checksum is wrong.
    #[error(
        "this is not a whole recovery text; give all of it, from its BEGIN line to its END line"
    )]
    Damaged,
    /// Made by a newer program.
    #[error("the recovery text is of version {0}, this program reads up to 2; update atrest")]
    FromTheFuture(u8),
}
