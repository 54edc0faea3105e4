//! A file on the bench: in memory, with the content that it should have.

use std::sync::Arc;

use atrest::format::StoredLen;
use atrest::keys::DEFAULT_KEY;
use atrest::store::{Context, FileError, SealedFile};

use crate::common_store::{Memory, Mounts, Op, read_all};

pub struct BenchFile {
    pub memory: Memory,
    pub mounts: Mounts,
    pub context: Arc<Context>,
    pub file: SealedFile<Memory>,
    /// What a reader should find.
    pub content: Vec<u8>,
}

impl BenchFile {
    /// A new, empty file.
    pub fn new() -> Self {
        let (memory, mounts) = (Memory::default(), Mounts::first());
        let context = mounts.context();
        let file = SealedFile::open(memory.clone(), 0, Arc::clone(&context)).unwrap();
        Self { memory, mounts, context, file, content: Vec::new() }
    }

    /// A file that `ops` made, of which each is checked.
    pub fn made_by(ops: &[Op]) -> Self {
        let mut made = Self::new();
        for (number, op) in (200..).zip(ops) {
            made.perform(number, op).unwrap();
            made.check().unwrap();
        }
        made
    }

    /// Does `op`; if it succeeds the content is expected to follow.
    pub fn perform(&mut self, number: usize, op: &Op) -> Result<(), FileError> {
        if *op == Op::Rewrap {
            let mut ring = self.context.ring().clone();
            ring.rotate(DEFAULT_KEY).unwrap();
            self.context.replace_ring(ring);
            self.mounts.learn(&self.context);
        }
        op.perform(number, &self.file)?;
        op.apply(number, &mut self.content);
        match op {
            Op::Reopen => self.reopen(),
            Op::Remount => self.remount(),
            _ => Ok(()),
        }
    }

    /// Another open in the same mount; the caller has committed.
    pub fn reopen(&mut self) -> Result<(), FileError> {
        let size = self.memory.size();
        self.file = SealedFile::open(self.memory.clone(), size, Arc::clone(&self.context))?;
        Ok(())
    }

    /// A clean end and another mount; the caller has committed.
    pub fn remount(&mut self) -> Result<(), FileError> {
        self.mounts = self.mounts.after_clean_end();
        self.context = self.mounts.context();
        self.reopen()
    }

    /// The file has the content and the length that it should, and the size in the vault says so.
    pub fn check(&self) -> Result<(), String> {
        let found = read_all(&self.file).map_err(|error| format!("reading: {error}"))?;
        same(&found, &self.content)?;
        let size = self.memory.size();
        match StoredLen::from_stored(size) {
            Ok(StoredLen::Exact(len)) if len == self.content.len() as u64 => Ok(()),
            _ => Err(format!("a size of {size} for {} bytes", self.content.len())),
        }
    }

    /// Each block is what was sealed there.
    pub fn verify(&self) -> Result<(), String> {
        let report = self.file.verify();
        let sound = report.damage.is_empty() && report.extent.bytes == self.content.len() as u64;
        sound.then_some(()).ok_or_else(|| format!("verify: {report:?}"))
    }
}

pub fn same(found: &[u8], expected: &[u8]) -> Result<(), String> {
    if found == expected {
        return Ok(());
    }
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    Err(format!("{} bytes, not {}; they differ at {at:?}", found.len(), expected.len()))
}
