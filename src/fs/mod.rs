//! POSIX semantics of a mounted vault. Nothing here knows FUSE, so all of it can be used, and tested,
//! without a mount.
//!
//! `file_system` is the state of a mount and the order of its locks. Its operations lie by family in
//! `ops` (with the table of open files), on top of `namespace` (inodes, names and their locks) and
//! `access` (permission to use a key, and the record of it). `maintenance` is work on all files.

mod access;
mod descriptors;
mod error;
mod file_system;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod maintenance;
mod namespace;
mod ops;

pub use crate::keys::policy::Subject;
pub use access::handle::Handle;
pub use access::open_mode::OpenMode;
pub use access::simulate::{Operation, Use, Verdict};
pub use error::FsError;
pub use file_system::Fs;
pub use maintenance::references::References;
pub use maintenance::rewrap::{Rewrap, RewrapSummary};
pub use maintenance::tally::{FileFailure, Progress};
pub use maintenance::verify::VerifySummary;
pub use namespace::inode::{Attr, Inode};
pub use namespace::lookup::Entry;
pub use ops::change::{Change, Origin, Time};
pub use ops::content::Written;
pub use ops::copy::CopyProgress;
pub use ops::dir_streams::DirEntry;
pub use ops::dirs::DirEntryPlus;
pub use ops::open_files::access_times::AccessTimes;
pub use ops::space::Allocate;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::VaultId;
    use crate::keys::KeyRing;
    use crate::store::{Access, NameMode, Vault};

    /// The file system of a new vault.
    pub fn new_fs() -> (tempfile::TempDir, Fs) {
        let (dir, ring) = (tempfile::tempdir().unwrap(), KeyRing::create(VaultId::random()));
        Vault::create(dir.path(), &ring, NameMode::Plain).unwrap();
        let vault = Vault::open(dir.path(), ring, Access::ReadWrite).unwrap();
        (dir, Fs::new(vault).unwrap())
    }
}
