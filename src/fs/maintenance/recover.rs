//! After a crash: each file whose state needs the crash as an explanation gets a header that needs
//! none. When that is done and durable, the record of mounts need not excuse anything any more.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::io::Errno;

use super::walk::Visited;
use crate::format::HEADER_LEN;
use crate::fs::{Fs, FsError};
use crate::store::{Access, FileError, VaultError};
use crate::sys::Show;

impl Fs {
    /// Walks the vault until `go_on` returns `false`. After a complete walk and a clean end of this
    /// mount, earlier crashes excuse nothing any more. Returns the number of files with a new
    /// header.
    ///
    /// # Errors
    /// [`VaultError::Stopped`] when `go_on` stopped it, [`VaultError::Unrecovered`] when some files
    /// could not be looked at or written; [`VaultError::Io`] where the
    /// vault's directory can't be opened.
    pub fn recover(&self, go_on: &(dyn Fn() -> bool + Sync)) -> Result<u64, VaultError> {
        let (rebound, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        let stopped = AtomicBool::new(false);
        // A header write moves a file's time of change.
        let _run = self.rewraps.begin();
        self.each_file_even_moved(
            &|visited, _| {
                match self.recover_file(visited) {
                    Ok(true) => drop(rebound.fetch_add(1, Ordering::Relaxed)),
                    Ok(false) => {}
                    // Gone, or moved and visited elsewhere; or damaged, which no crash explains.
                    Err(
                        FsError::Backing(Errno::NOENT)
                        | FsError::Stale
                        | FsError::File { error: FileError::Integrity(_), .. },
                    ) => {}
                    Err(error) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                        let path = visited.path();
                        log::info!("{}: left as a crash left it: {error}", path.shown());
                    }
                }
                let go_on = go_on();
                stopped.fetch_or(!go_on, Ordering::Relaxed);
                go_on
            },
            &|path, error| {
                failed.fetch_add(1, Ordering::Relaxed);
                log::info!("{}: what a crash left is not known: {error}", path.shown());
            },
        )?;
        match (stopped.into_inner(), failed.into_inner()) {
            (true, _) => Err(VaultError::Stopped),
            (false, 0) => {
                self.vault.context().note_recovered();
                Ok(rebound.into_inner())
            }
            (false, files) => Err(VaultError::Unrecovered(files)),
        }
    }

    /// Whether the file got a new header. Of most files 256 bytes are read, and nothing else is
    /// done: a file whose header, forged or not, needs no recovery needs no key here.
    fn recover_file(&self, visited: &Visited<'_>) -> Result<bool, FsError> {
        let (file, stat) = self.open.open_found(&visited.at_path(), Access::ReadOnly)?;
        if stat.st_size == 0 {
            return Ok(false);
        }
        let mut bytes = [0; HEADER_LEN];
        let read = rustix::io::pread(&file, &mut bytes, 0)?;
        if read < HEADER_LEN
            || !self.vault.context().needs_recovery(&bytes, stat.st_size.unsigned_abs())
        {
            return Ok(false);
        }
        drop(file);
        self.on_visited(visited, Access::ReadWrite, |file, _| file.recover())?;
        Ok(true)
    }
}
