//! What a vault needs of the filesystem below it, tried before it is made or opened for writing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, Stat, XattrFlags, fallocate, fsetxattr,
    fstat, openat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

use super::own_files::OwnFiles;
use crate::format::BLOCK_LEN;
use crate::sys;

/// The file that is made for it, and the name that it is given. Both go again; those that a killed
/// process left are taken away by the next.
const FILE: &str = "probe";
const RENAMED: &str = "probe.renamed";

/// What a backing filesystem lacks, and a vault needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The same file has several identities.
    #[error(
        "its filesystem gives a file another device or inode number than its directory says, as an \
         overlayfs does whose layers are on two filesystems: put it on one of them"
    )]
    Identity,
    /// An O_PATH descriptor can't be opened by its link in /proc.
    #[error("files can't be opened by /proc/self/fd: mount /proc")]
    DescriptorLinks,
    /// Two names that differ by case alone are one.
    #[error(
        "its filesystem takes names that differ by case alone for one: put it on another, or into a \
         directory without the attribute of case-folding (`chattr -F` while it is empty)"
    )]
    IgnoresCase,
    /// Bytes within a file can't be written where they are.
    #[error("its filesystem does not keep what is written at an offset")]
    Offsets,
}

/// What a backing filesystem lacks, and a vault can do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// `user.*` attributes.
    #[error(
        "no extended attributes: setting one fails, and no directory can be given a master key"
    )]
    Xattrs,
    /// fallocate(2) FALLOC_FL_PUNCH_HOLE.
    #[error("no punching of holes: fallocate(2) fails, and space within files is not given back")]
    Holes,
    /// renameat2(2) RENAME_NOREPLACE.
    #[error("no renameat2(2) with RENAME_NOREPLACE: such renames fail")]
    NoReplace,
}

/// Why a probe ended without a result.
#[derive(Debug)]
pub enum ProbeError {
    /// The filesystem can't carry a vault.
    Unfit(Unfit),
    /// A call failed that fails on no filesystem that is well.
    Io(io::Error),
}

impl From<Errno> for ProbeError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Tries what a vault does with files, in a small file among the vault's own. Nothing is made
/// durable, so it takes the disk no time. A filesystem on which no file can be made, because it is
/// full or read-only, tells nothing: whoever needs to write finds out.
///
/// # Errors
/// [`ProbeError`]; nothing is left behind.
pub fn probe(own: &OwnFiles) -> Result<Vec<Lack>, ProbeError> {
    for name in [FILE, RENAMED] {
        match unlinkat(own, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Read-only, say: then none is made either.
            Err(_) => return Ok(Vec::new()),
        }
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = match openat(own, FILE, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file),
        Err(_) => return Ok(Vec::new()),
    };
    let found = examine(own, &file);
    for name in [FILE, RENAMED] {
        // The next probe takes it away.
        let _ = unlinkat(own, name, AtFlags::empty());
    }
    match found {
        Err(ProbeError::Io(error)) if is_full(&error) => Ok(Vec::new()),
        found => found,
    }
}

fn examine(own: &OwnFiles, file: &File) -> Result<Vec<Lack>, ProbeError> {
    let directory = fstat(own)?;
    let made = fstat(file)?;
    let named = statat(own, FILE, AtFlags::SYMLINK_NOFOLLOW)?;
    if made.st_dev != directory.st_dev || identity(&made) != identity(&named) {
        return Err(ProbeError::Unfit(Unfit::Identity));
    }
    if ignores_case(own, &made) {
        return Err(ProbeError::Unfit(Unfit::IgnoresCase));
    }
    let path = openat(own, FILE, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    match sys::reopen(&path, OFlags::RDWR) {
        Ok(again) if identity(&fstat(&again)?) == identity(&made) => {}
        _ => return Err(ProbeError::Unfit(Unfit::DescriptorLinks)),
    }
    let mut lacks = Vec::new();
    match fsetxattr(file, "user.atrest.probe", b"", XattrFlags::empty()) {
        // An attribute that finds no room is one that the filesystem knows.
        Ok(()) | Err(Errno::NOSPC | Errno::DQUOT | Errno::NOBUFS) => {}
        Err(_) => lacks.push(Lack::Xattrs),
    }
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    if let Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) =
        fallocate(file, punch, 0, BLOCK_LEN as u64)
    {
        lacks.push(Lack::Holes);
    }
    // After the hole: ext4 writes to the disk what lies in one.
    check_offsets(file)?;
    match renameat_with(own, FILE, own, RENAMED, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => lacks.push(Lack::NoReplace),
        Ok(()) => {
            // Where the filesystem moves what it shows, as overlayfs does, the file stays itself.
            let renamed = statat(own, RENAMED, AtFlags::SYMLINK_NOFOLLOW)?;
            if identity(&renamed) != identity(&made) {
                return Err(ProbeError::Unfit(Unfit::Identity));
            }
        }
        Err(_) => {}
    }
    Ok(lacks)
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

/// Whether the file `made` is found by its name in capitals too.
fn ignores_case(own: &OwnFiles, made: &Stat) -> bool {
    let found = statat(own, FILE.to_ascii_uppercase(), AtFlags::SYMLINK_NOFOLLOW);
    found.is_ok_and(|found| identity(&found) == identity(made))
}

/// A byte at the end of a block, and the size past it.
fn check_offsets(file: &File) -> Result<(), ProbeError> {
    let end = BLOCK_LEN as u64;
    let tried = file.write_all_at(b"!", end - 1).and_then(|()| {
        file.set_len(end + 1)?;
        let mut read = [7; 3];
        file.read_exact_at(&mut read, end - 2)?;
        Ok(read == *b"\0!\0" && file.metadata()?.len() == end + 1)
    });
    match tried {
        Ok(true) => Ok(()),
        Ok(false) => Err(ProbeError::Unfit(Unfit::Offsets)),
        Err(error) => Err(ProbeError::Io(error)),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_usual_filesystem_lacks_nothing_and_keeps_nothing() {
        let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
        let own = OwnFiles::create(File::open(scratch.path()).unwrap()).unwrap();
        let directory = scratch.path().join(super::super::METADATA_DIR);
        // What a killed process left.
        fs::write(directory.join(RENAMED), b"").unwrap();
        assert_eq!(probe(&own).unwrap(), []);
        assert_eq!(fs::read_dir(directory).unwrap().count(), 0);
    }

    /// As a filesystem that ignores case shows them: two names of one file.
    #[test]
    fn two_names_of_one_file_are_seen() {
        let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
        let own = OwnFiles::create(File::open(scratch.path()).unwrap()).unwrap();
        let directory = scratch.path().join(super::super::METADATA_DIR);
        fs::write(directory.join(FILE), b"").unwrap();
        let made = statat(&own, FILE, AtFlags::empty()).unwrap();
        assert!(!ignores_case(&own, &made));
        fs::hard_link(directory.join(FILE), directory.join("PROBE")).unwrap();
        assert!(ignores_case(&own, &made));
    }
}
