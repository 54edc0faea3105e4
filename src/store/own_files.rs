//! The vault's own files, below `.atrest/`: small, and replaced as a whole.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use crate::format::BLOCK_LEN;
use crate::sys::{self, Links};

/// The name in the vault's root of the directory that holds the vault's own files.
pub const METADATA_DIR: &str = ".atrest";

/// Bytes of a metadata file at most.
const MAX_LEN: u64 = 1024 * 1024;

/// The directory `.atrest/` of a vault.
#[derive(Debug)]
pub struct OwnFiles(OwnedFd);

impl OwnFiles {
    /// Opens it below the vault's directory.
    ///
    /// # Errors
    /// `NotFound` where there is none; those of openat(2).
    pub fn open(vault: impl AsFd) -> io::Result<Self> {
        Ok(Self(sys::open_directory_at(vault, METADATA_DIR, OFlags::RDONLY)?))
    }

    /// The same directory once more.
    ///
    /// # Errors
    /// EMFILE.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Makes it, with mode 0700.
    ///
    /// # Errors
    /// Those of mkdirat(2) and openat(2).
    pub fn create(vault: impl AsFd) -> io::Result<Self> {
        rustix::fs::mkdirat(&vault, METADATA_DIR, Mode::RWXU)?;
        Self::open(vault)
    }

    /// Another directory of such files.
    ///
    /// # Errors
    /// `NotFound`; those of open(2).
    pub fn at(directory: &Path) -> io::Result<Self> {
        Ok(Self(sys::open_directory(directory)?))
    }

    /// [`OwnFiles::at`], made with mode 0700 if it is not there.
    ///
    /// # Errors
    /// Those of mkdir(2) and open(2).
    pub fn in_directory(directory: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        Self::at(directory)
    }

    /// All of the file `name`.
    ///
    /// # Errors
    /// `NotFound`; `InvalidData` where it is longer than 1 MiB or no regular file; those of openat(2)
    /// and read(2).
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.read_up_to(name, MAX_LEN)
    }

    /// All of the file `name`, which has `longest` bytes at most.
    ///
    /// # Errors
    /// As [`OwnFiles::read`].
    pub fn read_up_to(&self, name: &str, longest: u64) -> io::Result<Vec<u8>> {
        sys::read_regular(&self.0, name, Links::Refuse, longest).map_err(|error| named(name, error))
    }

    /// Replaces the file `name`, durably: at any moment, crash or not, it is the old or the new. On
    /// a full disk that takes a file as long as the new one.
    ///
    /// # Errors
    /// Those of openat(2), write(2), fsync(2) and renameat(2). The file is then the old one. Where only
    /// the sync of the directory failed it is the new one, which a crash may take back.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_with(name, bytes, true)
    }

    /// [`OwnFiles::replace`] without a sync of the directory: the new file outlives the process, but a
    /// crash of the machine soon after may bring the old one back, whole.
    ///
    /// # Errors
    /// As [`OwnFiles::replace`].
    pub fn replace_loosely(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace_with(name, bytes, false)
    }

    fn replace_with(&self, name: &str, bytes: &[u8], durable: bool) -> io::Result<()> {
        let temporary = format!("{name}.new");
        let replaced = self.write_new(&temporary, bytes).and_then(|file| {
            // A rename can reach the disk before the content does.
            if durable { file.sync_all() } else { file.sync_data() }?;
            rustix::fs::renameat(&self.0, &temporary, &self.0, name)?;
            if durable {
                rustix::fs::fsync(&self.0)?;
            }
            Ok(())
        });
        let Err(error) = replaced else { return Ok(()) };
        // The temporary file is of no use; the caller gets the failure itself.
        let _ = rustix::fs::unlinkat(&self.0, &temporary, AtFlags::empty());
        match error.kind() {
            // A vault on a full disk must still be mounted, or nothing in it could be deleted.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.overwrite(name, bytes).map_err(|_| error)
            }
            _ => Err(error),
        }
    }

    /// Opens the lock file, making it if need be.
    ///
    /// # Errors
    /// Those of openat(2); `InvalidData` where it is no regular file.
    pub fn open_lock(&self, name: &str) -> io::Result<File> {
        let open = |flags| sys::open_regular(&self.0, name, flags, Links::Refuse);
        let opened = match open(OFlags::RDWR | OFlags::CREATE) {
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::ROFS | Errno::ACCESS)) =>
            {
                open(OFlags::RDONLY)
            }
            opened => opened,
        };
        opened.map_err(|error| named(name, error))
    }

    /// Writes over the file `name` where it lies, which takes no space. It must have this length, no
    /// other name, and one block: that reaches the disk as a whole.
    fn overwrite(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = sys::open_regular(&self.0, name, OFlags::WRONLY, Links::Refuse)?;
        let fits = bytes.len() <= BLOCK_LEN && file.metadata()?.len() == bytes.len() as u64;
        if !fits || !sys::has_one_name(&file)? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        file.write_all_at(bytes, 0)?;
        file.sync_all()
    }

    fn write_new(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        let mut file = sys::create_temporary(&self.0, name).map_err(|error| named(name, error))?;
        file.write_all(bytes)?;
        Ok(file)
    }
}

/// The error with the file's name where it is about what stands in its place.
fn named(name: &str, error: io::Error) -> io::Error {
    match error.kind() {
        kind @ (io::ErrorKind::InvalidData | io::ErrorKind::IsADirectory) => {
            io::Error::new(kind, format!("{}/{name}: {error}", METADATA_DIR))
        }
        _ => error,
    }
}

impl From<OwnFiles> for OwnedFd {
    fn from(own: OwnFiles) -> Self {
        own.0
    }
}

impl AsFd for OwnFiles {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
