//! A file and what it must hold.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use super::files::{assert_same, open_rw, read_at};

/// An open file and, beside it in memory, the content it must have: each change is made to both.
pub struct Twin {
    pub file: File,
    pub expected: Vec<u8>,
    path: PathBuf,
}

impl Twin {
    /// Opens or makes the file, which is empty after.
    #[track_caller]
    pub fn empty(path: impl AsRef<Path>) -> Twin {
        let file = open_rw(&path);
        file.set_len(0).expect("truncate to 0");
        Twin { file, expected: Vec::new(), path: path.as_ref().to_owned() }
    }

    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        if !bytes.is_empty() {
            self.reach(offset + bytes.len() as u64);
            self.range(offset, bytes.len() as u64).copy_from_slice(bytes);
        }
        Ok(())
    }

    pub fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.expected.resize(length as usize, 0);
        Ok(())
    }

    /// fallocate(2) in any of the modes that keep bytes where they are.
    pub fn fallocate(&mut self, flags: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        fallocate(&self.file, flags, offset, length)?;
        if !flags.contains(FallocateFlags::KEEP_SIZE) {
            self.reach(offset + length);
        }
        if flags.intersects(FallocateFlags::PUNCH_HOLE | FallocateFlags::ZERO_RANGE) {
            self.range(offset, length).fill(0);
        }
        Ok(())
    }

    /// copy_file_range(2) within this file, as often as it takes. The ranges must not overlap.
    pub fn copy_within(&mut self, from: u64, to: u64, length: u64) -> io::Result<()> {
        let (mut source, mut target) = (from, to);
        let end = (from + length).min(self.expected.len() as u64);
        while source < end {
            let wanted = (end - source) as usize;
            let copied = rustix::fs::copy_file_range(
                &self.file,
                Some(&mut source),
                &self.file,
                Some(&mut target),
                wanted,
            )?;
            assert_ne!(copied, 0, "{}: copied nothing before the end", self.path.display());
        }
        if from < end {
            let bytes = self.expected[from as usize..end as usize].to_vec();
            self.reach(to + bytes.len() as u64);
            self.range(to, bytes.len() as u64).copy_from_slice(&bytes);
        }
        Ok(())
    }

    /// Reads the whole file, and its length by stat, and compares.
    #[track_caller]
    pub fn check(&self, what: &str) {
        let what = format!("{}: {what}", self.path.display());
        assert_eq!(
            self.file.metadata().expect("fstat").len(),
            self.expected.len() as u64,
            "{what}: length"
        );
        assert_same(&read_at(&self.file, 0, self.expected.len() + 5000), &self.expected, &what);
    }

    fn reach(&mut self, length: u64) {
        if self.expected.len() < length as usize {
            self.expected.resize(length as usize, 0);
        }
    }

    fn range(&mut self, offset: u64, length: u64) -> &mut [u8] {
        let end = self.expected.len();
        &mut self.expected[(offset as usize).min(end)..((offset + length) as usize).min(end)]
    }
}
