//! A file mapped into memory.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::slice;

/// A readable and writable mapping of the first `len` bytes of a file. Touching a page past the
/// file's end is SIGBUS, as it is for any program.
pub struct Mapping {
    start: *mut u8,
    len: usize,
}

impl Mapping {
    /// Stores go to the file.
    pub fn shared(file: &File, len: usize) -> io::Result<Mapping> {
        Mapping::new(file, len, libc::MAP_SHARED)
    }

    /// Stores stay with this mapping.
    pub fn private(file: &File, len: usize) -> io::Result<Mapping> {
        Mapping::new(file, len, libc::MAP_PRIVATE)
    }

    fn new(file: &File, len: usize, flags: libc::c_int) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, file.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: start.cast(), len })
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start` maps `len` bytes until drop; tests share a mapping with no other writer
        // while they hold the slice.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }

    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start, self.len) }
    }

    /// Writes what was stored back to the file (msync with MS_SYNC).
    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: `start` maps `len` bytes until drop.
        match unsafe { libc::msync(self.start.cast(), self.len, libc::MS_SYNC) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no slice of it outlives the value.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}
