//! A write that fails while something else happens to the same file.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use atrest::format::{BLOCK_LEN, BlockIndex, HEADER_LEN, Header};
use atrest::store::{Backing, SealedFile, SyncScope};
use parking_lot::Mutex;

use crate::common_store::{Memory, Mounts, pattern, read_all};

type Shared = Arc<SealedFile<Interrupted>>;
type Meanwhile = Box<dyn Fn(&Shared) + Send + Sync>;

/// A file of which one block can't be written; before that shows, something else happens.
struct Interrupted {
    memory: Memory,
    /// Where a write fails.
    fails: u64,
    /// How many bytes of it are written all the same; it does not fail if these are all.
    written: usize,
    file: OnceLock<Weak<SealedFile<Interrupted>>>,
    meanwhile: Meanwhile,
    /// What goes on after that write.
    others: Mutex<Vec<JoinHandle<()>>>,
    /// Whether a write to [`SLOW`] has begun.
    slow: AtomicBool,
    /// Whether the next write that leaves the times alone fails when all is written.
    fails_late: AtomicBool,
}

/// Where a block lies whose write takes its time.
const SLOW: u64 = 3 * BLOCK_LEN as u64;

impl Interrupted {
    fn new(
        memory: &Memory,
        fails: BlockIndex,
        meanwhile: impl Fn(&Shared) + Send + Sync + 'static,
    ) -> Interrupted {
        Interrupted {
            memory: memory.clone(),
            fails: fails.stored(),
            written: 0,
            file: OnceLock::new(),
            meanwhile: Box::new(meanwhile),
            others: Mutex::default(),
            slow: AtomicBool::new(false),
            fails_late: AtomicBool::new(false),
        }
    }
}

impl Backing for Interrupted {
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if offset == SLOW {
            self.slow.store(true, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(100));
        }
        if offset != self.fails {
            return self.memory.write_at(buf, offset);
        }
        let file = self.file.get().and_then(Weak::upgrade).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| (self.meanwhile)(&file));
        });
        let written = self.written.min(buf.len());
        self.memory.write_at(&buf[..written], offset)?;
        match written == buf.len() {
            true => Ok(()),
            false => Err(io::Error::from_raw_os_error(28)),
        }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.memory.read_at(buf, offset)
    }

    fn write_preserving_mtime(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.memory.write_preserving_mtime(buf, offset)?;
        match self.fails_late.swap(false, Ordering::SeqCst) {
            true => Err(io::Error::from_raw_os_error(122)),
            false => Ok(()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.memory.set_len(len)
    }

    fn sync(&self, scope: SyncScope) -> io::Result<()> {
        self.memory.sync(scope)
    }

    fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        self.memory.punch(offset, len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.memory.allocate(offset, len)
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.memory.next_data(offset)
    }

    fn next_hole(&self, offset: u64) -> io::Result<Option<u64>> {
        self.memory.next_hole(offset)
    }
}

/// Appends to a file of one block, which fails while `meanwhile` happens; returns what the next
/// mount reads.
fn fail_while(meanwhile: impl Fn(&Shared) + Send + Sync + 'static) -> Vec<u8> {
    fail_at(BlockIndex(1), meanwhile)
}

/// The same with a write to another block.
fn fail_at(block: BlockIndex, meanwhile: impl Fn(&Shared) + Send + Sync + 'static) -> Vec<u8> {
    let (memory, mounts) = (Memory::default(), Mounts::first());
    let backing = Interrupted::new(&memory, block, meanwhile);
    let file = Arc::new(SealedFile::open(backing, 0, mounts.context()).unwrap());
    file.backing().file.set(Arc::downgrade(&file)).unwrap();
    file.write(0, &pattern(0, 3808)).unwrap();
    file.write(block.start(), &pattern(block.start(), 1000)).unwrap_err();
    file.backing().others.lock().drain(..).for_each(|other| other.join().unwrap());
    let found = read_all(&file).unwrap();
    file.commit().unwrap();
    let next = mounts.after_clean_end().context();
    let file = SealedFile::open(memory.clone(), memory.size(), next).unwrap();
    assert_eq!(read_all(&file).unwrap(), found);
    found
}

#[test]
fn a_header_committed_while_a_write_fails_does_not_keep_its_length() {
    assert_eq!(fail_while(|file| file.commit().unwrap()), pattern(0, 3808));
}

#[test]
fn a_failed_write_below_one_that_succeeded_leaves_zeros() {
    let found = fail_while(|file| file.write(10_000, &pattern(10_000, 50)).unwrap());
    let mut expected = pattern(0, 3808);
    expected.resize(10_000, 0);
    expected.extend(pattern(10_000, 50));
    assert_eq!(found, expected);
}

/// The write that fails has made the file long enough for the slow one, which is still under way
/// when it fails: to cut the file then would leave the slow one's block behind the file's end.
#[test]
fn a_failed_write_does_not_cut_the_file_under_another_one() {
    let slow = BlockIndex(3);
    let bytes = pattern(slow.start(), slow.capacity());
    let written = bytes.clone();
    let meanwhile = move |file: &Shared| {
        let (other, bytes) = (Arc::clone(file), bytes.clone());
        let write = move || other.write(slow.start(), &bytes).unwrap();
        file.backing().others.lock().push(thread::spawn(write));
        while !file.backing().slow.load(Ordering::SeqCst) {
            thread::yield_now();
        }
    };
    let found = fail_at(BlockIndex(5), meanwhile);
    let mut expected = pattern(0, 3808);
    expected.resize(slow.start() as usize, 0);
    expected.extend(written);
    assert_eq!(found, expected);
}

/// As when a quota ends between the write of a header and setting the times back.
#[test]
fn a_header_write_that_fails_late_is_done_again() {
    let (memory, mounts) = (Memory::default(), Mounts::first());
    let backing = Interrupted::new(&memory, BlockIndex(9), |_| {});
    let file = SealedFile::open(backing, 0, mounts.context()).unwrap();
    file.write(0, &pattern(0, 9000)).unwrap();
    file.commit().unwrap();
    file.truncate(8000).unwrap();
    file.backing().fails_late.store(true, Ordering::SeqCst);
    file.commit().unwrap_err();
    // As long as the last header says whose write succeeded.
    file.truncate(9000).unwrap();
    file.commit().unwrap();
    let next = mounts.after_clean_end().context();
    let file = SealedFile::open(memory.clone(), memory.size(), next).unwrap();
    assert_eq!(read_all(&file).unwrap().len(), 9000);
}

/// A file with a hole in its block 1, which is written while `meanwhile` happens.
fn fill_while(meanwhile: impl Fn(&Shared) + Send + Sync + 'static) -> Shared {
    let (memory, mounts) = (Memory::default(), Mounts::first());
    let hole = BlockIndex(1);
    let backing = Interrupted { written: BLOCK_LEN, ..Interrupted::new(&memory, hole, meanwhile) };
    let file = Arc::new(SealedFile::open(backing, 0, mounts.context()).unwrap());
    file.backing().file.set(Arc::downgrade(&file)).unwrap();
    file.write(0, &pattern(0, 3808)).unwrap();
    file.truncate(hole.end() + 1).unwrap();
    file.sync(SyncScope::All).unwrap();
    file.write(hole.start(), &pattern(hole.start(), 1000)).unwrap();
    file
}

#[test]
fn what_is_written_while_a_sync_is_under_way_asks_for_another() {
    assert!(fill_while(|file| file.sync(SyncScope::All).unwrap()).is_unsynced());
}

#[test]
fn a_hole_that_is_filled_while_a_header_is_committed_leaves_the_next_one() {
    let file = fill_while(|file| file.commit().unwrap());
    assert!(file.may_need_commit());
}

#[test]
fn a_write_that_fails_in_a_hole_leaves_only_what_it_did_not_fill() {
    let (memory, mounts) = (Memory::default(), Mounts::first());
    let part = BLOCK_LEN;
    let backing = Interrupted { written: part, ..Interrupted::new(&memory, BlockIndex(1), |_| {}) };
    let file = Arc::new(SealedFile::open(backing, 0, mounts.context()).unwrap());
    file.backing().file.set(Arc::downgrade(&file)).unwrap();
    file.write(0, &pattern(0, 3808)).unwrap();
    file.truncate(BlockIndex(3).end()).unwrap();
    file.commit().unwrap();
    file.write(BlockIndex(1).start(), &pattern(0, 9000)).unwrap_err();
    file.commit().unwrap();
    let mut header = [0; HEADER_LEN];
    memory.read_at(&mut header, 0).unwrap();
    let holes = Header::parse(&header).unwrap().holes;
    assert_eq!(holes.extents.spans()[0].first, BlockIndex(2), "{holes:?}");
}
