//! A backing file that remembers what a crash could leave of it.

use std::io;
use std::sync::Arc;

use atrest::format::BLOCK_LEN;
use atrest::store::{Backing, SyncScope};
use parking_lot::Mutex;

use crate::common_store::{Block, Image};

/// One step on the way from the last sync to now.
#[derive(Clone)]
pub enum Event {
    /// The block at this index became this; `None` is a hole.
    Block(u64, Option<Arc<Block>>),
    /// The file got this size.
    Size(u64),
}

/// What happened between two syncs, or the last sync and the end.
pub struct Interval {
    /// What is on the disk for certain.
    pub durable: Image,
    /// What may or may not have followed.
    pub events: Vec<Event>,
    /// The states of the plaintext, by number, that a crash in it may leave a mixture of.
    pub from: usize,
    pub to: usize,
    /// The mount in which it was, by number.
    pub mount: usize,
}

/// A file in memory with the history of its blocks and sizes. Clones are the same file.
#[derive(Clone)]
pub struct CrashDisk(Arc<Mutex<State>>);

struct State {
    now: Image,
    durable: Image,
    events: Vec<Event>,
    intervals: Vec<Interval>,
    from: usize,
    to: usize,
    mount: usize,
}

impl CrashDisk {
    /// A file with this content, all of it durable.
    pub fn new(image: Image) -> Self {
        Self(Arc::new(Mutex::new(State {
            now: image.clone(),
            durable: image,
            events: Vec::new(),
            intervals: Vec::new(),
            from: 0,
            to: 0,
            mount: 0,
        })))
    }

    pub fn image(&self) -> Image {
        self.0.lock().now.clone()
    }

    /// The operation that leads to plaintext state `to` begins.
    pub fn begin(&self, to: usize) {
        self.0.lock().to = to;
    }

    /// The plaintext state `from` has been fsynced.
    pub fn fsynced(&self, from: usize) {
        self.0.lock().from = from;
    }

    /// The mount has ended cleanly, and the next one begins.
    pub fn remounted(&self) {
        let mut state = self.0.lock();
        assert!(state.events.is_empty(), "something is not durable at the end of a mount");
        state.mount += 1;
    }

    /// All intervals up to now.
    pub fn intervals(&self) -> Vec<Interval> {
        let mut state = self.0.lock();
        state.close_interval();
        std::mem::take(&mut state.intervals)
    }
}

impl State {
    fn sync(&mut self) {
        if !self.events.is_empty() {
            self.close_interval();
        }
    }

    fn close_interval(&mut self) {
        let durable = std::mem::replace(&mut self.durable, self.now.clone());
        let events = std::mem::take(&mut self.events);
        let (from, to, mount) = (self.from, self.to, self.mount);
        self.intervals.push(Interval { durable, events, from, to, mount });
    }

    fn note_block(&mut self, index: u64) {
        self.events.push(Event::Block(index, self.now.block(index).cloned()));
    }

    fn note_blocks(&mut self, offset: u64, len: u64) {
        for index in offset / BLOCK_LEN as u64..(offset + len).div_ceil(BLOCK_LEN as u64) {
            self.note_block(index);
        }
    }

    fn write(&mut self, buf: &[u8], offset: u64) {
        assert!(offset + buf.len() as u64 <= self.now.size(), "the size goes first");
        self.now.write_at(buf, offset);
        self.note_blocks(offset, buf.len() as u64);
    }
}

impl Backing for CrashDisk {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.0.lock().now.read_at(buf, offset))
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.lock().write(buf, offset);
        Ok(())
    }

    fn write_preserving_mtime(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let before = state.now.size();
        state.now.set_len(len);
        state.events.push(Event::Size(len));
        // What a cut leaves of a block is that block with zeros behind.
        if len < before && !len.is_multiple_of(BLOCK_LEN as u64) {
            state.note_block(len / BLOCK_LEN as u64);
        }
        Ok(())
    }

    fn sync(&self, _: SyncScope) -> io::Result<()> {
        self.0.lock().sync();
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        let end = (offset + len).min(state.now.size().next_multiple_of(BLOCK_LEN as u64));
        state.now.punch(offset, len);
        state.note_blocks(offset, end.saturating_sub(offset));
        Ok(())
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(self.0.lock().now.next_data(offset))
    }

    fn next_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        Ok(self.0.lock().now.next_hole(offset))
    }
}
