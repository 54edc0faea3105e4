//! What one file must be.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::getxattr;

use crate::common::files::assert_same;

#[derive(Default)]
pub struct FileModel {
    pub content: Vec<u8>,
    pub mode: u32,
    pub links: u64,
    pub note: Option<Vec<u8>>,
    /// What utimensat set, until the next change of the content.
    pub mtime: Option<(i64, i64)>,
}

impl FileModel {
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset as usize + bytes.len();
        if self.content.len() < end {
            self.content.resize(end, 0);
        }
        self.content[offset as usize..end].copy_from_slice(bytes);
        self.mtime = None;
    }

    pub fn resize(&mut self, length: u64) {
        self.content.resize(length as usize, 0);
        self.mtime = None;
    }

    pub fn zero(&mut self, offset: u64, length: u64) {
        let end = (offset + length).min(self.content.len() as u64) as usize;
        self.content[(offset as usize).min(end)..end].fill(0);
        self.mtime = None;
    }

    /// Compares with the file that is there.
    pub fn check(&self, path: &Path, meta: &fs::Metadata, what: &str) {
        assert_eq!(meta.len(), self.content.len() as u64, "{what}: length");
        assert_same(&fs::read(path).unwrap(), &self.content, what);
        assert_eq!(meta.mode() & 0o7777, self.mode, "{what}: mode");
        assert_eq!(meta.nlink(), self.links, "{what}: links");
        if let Some(mtime) = self.mtime {
            assert_eq!((meta.mtime(), meta.mtime_nsec()), mtime, "{what}: mtime");
        }
        let mut room = [0; 4096];
        let note =
            getxattr(path, "user.note", &mut room[..]).ok().map(|length| room[..length].to_vec());
        assert_eq!(note, self.note, "{what}: attribute");
    }
}
